"""JavaScript clients: openai, the AI SDK, cohere-ai, ollama and @huggingface/inference."""

from typing import Any

import numpy as np
import pytest

from clients.harness import QUERY, TEXTS, Answers, Node, Server, same

DOCUMENTS = [text for text in TEXTS if text]


def test_openai(node: Node, answers: Answers) -> None:
    """It asks for base64 by itself and decodes it."""
    found = node("openai", texts=TEXTS)
    assert same(found["vectors"], answers.document(TEXTS))
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] > 0
    plain = node("openai", texts=TEXTS, options={"encoding_format": "float", "input_type": "query"})
    assert same(plain["vectors"], answers.query(TEXTS))
    assert same(node("openai", texts=TEXTS, dimensions=64)["vectors"], answers.document(TEXTS, dim=64))


def test_openai_errors(node: Node, strict_server: Server) -> None:
    wrong = node("openaiError", texts=TEXTS, options={"input_type": "clustering"})
    assert wrong == {"type": "BadRequestError", "status": 400, "code": "invalid_value", "param": "input_type"}
    absent = node("openaiError", url=strict_server.url, key=strict_server.key, texts=TEXTS, model="other")
    assert absent == {"type": "NotFoundError", "status": 404, "code": "model_not_found", "param": "model"}
    stranger = node("openaiError", url=strict_server.url, texts=TEXTS)
    assert (stranger["type"], stranger["code"]) == ("AuthenticationError", "invalid_api_key")


@pytest.mark.parametrize("case", ["aiOpenai", "aiCompatible"])
def test_ai_sdk(node: Node, answers: Answers, case: str) -> None:
    found = node(case, texts=TEXTS)
    assert same(found["vectors"], answers.document(TEXTS))
    assert found["tokens"] > len(TEXTS)
    assert same(node(case, texts=TEXTS, model="emb:query")["vectors"], answers.query(TEXTS))


def test_ai_sdk_dimensions_and_headers(node: Node, answers: Answers) -> None:
    options = {"headers": {"x-quoit-prompt": "query"}}
    found = node("aiCompatible", texts=TEXTS, dimensions=64, options=options)
    assert same(found["vectors"], answers.query(TEXTS, dim=64))


def test_cohere(node: Node, answers: Answers) -> None:
    found = node("cohere", texts=DOCUMENTS, query=QUERY)
    assert same(found["float"], answers.query(DOCUMENTS))
    assert np.abs(found["int8"]).max(axis=1).tolist() == [127] * len(DOCUMENTS)
    assert same(found["old"], answers.document(DOCUMENTS))
    expected = answers.rank(QUERY, DOCUMENTS)
    assert [(entry["index"], entry["relevanceScore"]) for entry in found["ranked"]] == expected[:2]
    assert [(entry["index"], entry["relevanceScore"]) for entry in found["before"]] == expected
    assert [entry["document"]["text"] for entry in found["before"]] == [DOCUMENTS[index] for index, _ in expected]


def test_ollama(node: Node, answers: Answers) -> None:
    found: dict[str, Any] = node("ollama", texts=TEXTS)
    assert same(found["vectors"], answers.document(TEXTS))
    assert same(found["first"], answers.document(TEXTS[:1], normalize=False)[0])
    assert len(found["models"]) == 4
    assert found["error"] == {"status": 400, "message": "the input length exceeds the context length"}


@pytest.mark.parametrize("path", ["", "/", "/embed"])
def test_hugging_face(node: Node, answers: Answers, path: str) -> None:
    found = node("huggingFace", texts=TEXTS, query=QUERY, options={"path": path})
    assert same(found["vectors"], answers.document(TEXTS))
    assert same(found["one"], answers.query([QUERY], normalize=False))
    vectors = answers.document([QUERY, *TEXTS])
    np.testing.assert_allclose(found["cosines"], vectors[1:] @ vectors[0], atol=1e-6)
