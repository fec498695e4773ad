"""Cohere's Python client, in both versions of its interface."""

import base64
from typing import Any

import cohere
import numpy as np
import pytest

from clients.harness import QUERY, TEXTS, Answers, Server, same

DOCUMENTS = [text for text in TEXTS if text]


@pytest.fixture
def first(server: Server) -> cohere.Client:
    return cohere.Client(api_key="any", base_url=server.url)


@pytest.fixture
def second(server: Server) -> cohere.ClientV2:
    return cohere.ClientV2(api_key="any", base_url=server.url)


def test_the_first_version_embeds(first: cohere.Client, answers: Answers) -> None:
    """The client sends 96 texts at a time, and joins the answers."""
    many = [f"text {number}" for number in range(200)]
    assert same(first.embed(texts=many, model="m", input_type="search_document").embeddings, answers.document(many))
    assert same(first.embed(texts=TEXTS, model="m", input_type="search_query").embeddings, answers.query(TEXTS))
    response = first.embed(texts=TEXTS, model="m", input_type="search_document", embedding_types=["float", "int8"])
    assert same(response.embeddings.float_, answers.document(TEXTS))
    assert response.meta is not None
    assert response.meta.billed_units is not None


def test_the_second_version_embeds_in_every_type(second: cohere.ClientV2, answers: Answers) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    response = second.embed(texts=TEXTS, model="m", input_type="search_query", embedding_types=types)
    expected, found = answers.query(TEXTS), response.embeddings
    assert same(found.float_, expected)
    packed = [np.frombuffer(base64.b64decode(text), np.float32) for text in found.base64 or []]
    assert same(packed, expected)
    assert np.array_equal(np.array(found.ubinary), np.packbits(expected > 0, axis=1))
    assert np.array_equal(np.array(found.binary) + 128, np.array(found.ubinary))
    levels = np.array(found.int8, np.float32)
    assert np.abs(levels).max(axis=1).tolist() == [127] * len(TEXTS)
    assert np.array_equal(np.array(found.uint8) - 128, levels)
    cosines = (levels * expected).sum(1) / np.linalg.norm(levels, axis=1)
    assert cosines.min() > 0.999


def test_the_second_version_embeds_parts_and_fewer_dimensions(second: cohere.ClientV2, answers: Answers) -> None:
    inputs: Any = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    response = second.embed(inputs=inputs, model="m", input_type="search_document", output_dimension=64)
    assert same(response.embeddings.float_, answers.document(TEXTS, dim=64))
    assert response.meta is not None
    assert response.meta.billed_units is not None
    assert response.meta.billed_units.input_tokens


def test_both_versions_rank(first: cohere.Client, second: cohere.ClientV2, answers: Answers) -> None:
    expected = answers.rank(QUERY, DOCUMENTS)
    new = second.rerank(model="m", query=QUERY, documents=DOCUMENTS, top_n=2)
    assert [(entry.index, entry.relevance_score) for entry in new.results] == expected[:2]
    objects: Any = [{"text": text, "title": "unused"} for text in DOCUMENTS]
    old = first.rerank(model="m", query=QUERY, documents=objects, return_documents=True)
    assert [(entry.index, entry.relevance_score) for entry in old.results] == expected
    assert [entry.document.text for entry in old.results if entry.document] == [DOCUMENTS[i] for i, _ in expected]
    by_field = [{"body": text} for text in DOCUMENTS]
    ranked = first.rerank(model="m", query=QUERY, documents=by_field, rank_fields=["body"], return_documents=False)
    assert [(entry.index, entry.relevance_score) for entry in ranked.results] == expected
    assert ranked.results[0].document is None


def test_documents_are_cut_on_demand(second: cohere.ClientV2, answers: Answers) -> None:
    short = second.rerank(model="m", query=QUERY, documents=["Beijing " * 50, "no"], max_tokens_per_doc=1)
    assert len(short.results) == 2
    assert dict(answers.rank(QUERY, ["Beijing " * 50, "no"])) != {
        entry.index: entry.relevance_score for entry in short.results
    }


def test_errors_are_the_clients_own(second: cohere.ClientV2, strict_server: Server) -> None:
    with pytest.raises(cohere.BadRequestError, match="clustering"):
        second.embed(texts=TEXTS, model="m", input_type="clustering")
    with pytest.raises(cohere.BadRequestError, match="empty"):
        second.rerank(model="m", query=QUERY, documents=[])
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=strict_server.url).embed(texts=TEXTS, model="m", input_type="x")
    strict = cohere.ClientV2(api_key=strict_server.key, base_url=strict_server.url)
    with pytest.raises(cohere.NotFoundError, match="not served"):
        strict.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)
