"""What users of sentence-transformers type is understood, or answered with the name that it has here."""

import asyncio
import logging
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.util import cos_sim, pairwise_cos_sim

from quoit import AsyncEmbedder, AsyncReranker, Embedder, InputError, Reranker
from quoit.artifact import Artifact
from quoit.text.prompts import DEFAULT_TASK

TEXTS = ["one", "two words", "", "three"]
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"normalize_embeddings": False}, {"normalize": False}),
    ({"truncate_dim": 40}, {"dim": 40}),
    ({"truncate_dim": None}, {}),
    ({"precision": "ubinary"}, {"dtype": "ubinary"}),
    ({"precision": "float32", "batch_size": 8}, {}),
    ({"show_progress_bar": None}, {}),
    ({"show_progress_bar": False, "convert_to_numpy": True, "convert_to_tensor": False}, {}),
    ({"output_value": "sentence_embedding"}, {}),
]


@pytest.fixture(scope="module")
def embedder(byte_artifact: Artifact) -> Embedder:
    return Embedder(byte_artifact, precision="fp32", provider="cpu")


@pytest.fixture(scope="module")
def reranker(rerank_artifact: Artifact) -> Reranker:
    return Reranker(rerank_artifact, precision="int8", provider="cpu")


@pytest.mark.parametrize(("theirs", "ours"), SAME)
@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_options_of_sentence_transformers_are_understood(
    embedder: Embedder, method: str, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    found = getattr(embedder, method)(TEXTS, **theirs)
    np.testing.assert_array_equal(found, getattr(embedder, method)(TEXTS, **ours))


def test_an_option_of_both_names_is_refused(embedder: Embedder) -> None:
    options: dict[str, Any] = {"dim": 40, "truncate_dim": 40}
    with pytest.raises(
        TypeError, match=r"Embedder\.encode\(\) was given dim= and truncate_dim=.*leave out truncate_dim="
    ):
        embedder.encode(TEXTS, **options)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"convert_to_tensor": True}, "torch.from_numpy makes tensors of them"),
        ({"convert_to_numpy": False}, "results are numpy arrays already"),
        ({"output_value": "token_embeddings"}, "every text gives one vector"),
        ({"device": "cuda"}, r"use provider= of Embedder\(\)"),
        ({"input_type": "query"}, "call encode_query"),
        ({"normalise": True}, "use normalize="),
    ],
)
def test_what_means_nothing_here_names_its_counterpart(
    embedder: Embedder, options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(TypeError, match=rf"Embedder\.encode\(\) has no option .*{advice}"):
        embedder.encode(TEXTS, **options)


def test_a_wrong_value_is_an_error_of_its_own_name(embedder: Embedder) -> None:
    options: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"truncate_dim": 7}, InputError, "dim 7 must be a whole number"),
        ({"precision": "int4"}, InputError, "dtype 'int4' is unknown"),
        ({"normalize_embeddings": "yes"}, TypeError, "normalize is str"),
    ]
    for given, error, message in options:
        with pytest.raises(error, match=message):
            embedder.encode(TEXTS, **given)


def test_a_batch_size_is_left_out_with_a_line(embedder: Embedder, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"batch_size": 64}
    with caplog.at_level(logging.DEBUG, "quoit"):
        embedder.encode(TEXTS, **options)
    assert caplog.messages == ["Embedder.encode() leaves out batch_size=64, which changes nothing here"]


def test_a_prompt_may_be_given_or_named(embedder: Embedder) -> None:
    expected = embedder.encode_query(TEXTS)
    query = f"Instruct: {DEFAULT_TASK}\nQuery:"
    assert embedder.query_prompt() == embedder.prompts["query"] == query
    np.testing.assert_array_equal(embedder.encode(TEXTS, prompt_name="query"), expected)
    np.testing.assert_array_equal(embedder.encode(TEXTS, prompt=query), expected)
    np.testing.assert_array_equal(embedder.encode(TEXTS, prompt=query, prompt_name="document"), expected)
    np.testing.assert_array_equal(
        embedder.encode(TEXTS, prompt=embedder.query_prompt("Find")), embedder.encode_query(TEXTS, instruction="Find")
    )
    with pytest.raises(
        InputError, match="the model has no prompt 'passages'; it has query, document, and prompt= takes"
    ):
        embedder.encode(TEXTS, prompt_name="passages")
    with pytest.raises(TypeError, match="prompt is int 3, not str"):
        embedder.encode(TEXTS, prompt=3)  # type: ignore[arg-type]


def test_similarities_are_those_of_sentence_transformers(embedder: Embedder) -> None:
    vectors = embedder.encode(TEXTS, normalize=False)
    tensors = torch.from_numpy(vectors)
    np.testing.assert_allclose(embedder.similarity(vectors, vectors[:2]), cos_sim(tensors, tensors[:2]), atol=1e-6)
    np.testing.assert_allclose(embedder.similarity(vectors[0], vectors), cos_sim(tensors[0], tensors), atol=1e-6)
    pairs = embedder.similarity_pairwise(vectors, vectors[::-1])
    np.testing.assert_allclose(pairs, pairwise_cos_sim(tensors, tensors.flip(0)), atol=1e-6)
    assert pairs.dtype == np.float32


def test_what_a_model_says_of_itself(embedder: Embedder, reranker: Reranker) -> None:
    assert embedder.get_embedding_dimension() == embedder.dim == 96
    assert embedder.max_seq_length == embedder.max_tokens
    assert embedder.device == reranker.device == "cpu"
    embedder.prompts.clear()
    assert embedder.prompts


def test_a_ranking_has_the_names_of_a_cross_encoder(reranker: Reranker) -> None:
    options: dict[str, Any] = {"batch_size": 4, "show_progress_bar": False, "convert_to_numpy": True}
    ranking = reranker.rank("one", TEXTS, **options)
    assert ranking == reranker.rank("one", TEXTS)
    assert all(ranked["corpus_id"] == ranked["index"] for ranked in ranking)
    pairs = [("one", text) for text in TEXTS]
    np.testing.assert_array_equal(reranker.predict(pairs, **options), reranker.predict(pairs))
    wrong: dict[str, Any] = {"activation_fn": torch.nn.Sigmoid()}
    with pytest.raises(TypeError, match=r"Reranker\.predict\(\) has no option 'activation_fn'; use activation="):
        reranker.predict(pairs, **wrong)


def test_the_event_loop_understands_the_same(embedder: Embedder, reranker: Reranker) -> None:
    theirs: dict[str, Any] = {"truncate_dim": 40, "batch_size": 3}
    ranking: dict[str, Any] = {"batch_size": 3}

    async def check() -> None:
        async with AsyncEmbedder(embedder) as model:
            for method in ("encode", "encode_query", "encode_document"):
                found = await getattr(model, method)(TEXTS, **theirs)
                np.testing.assert_array_equal(found, getattr(embedder, method)(TEXTS, dim=40))
            found = await model.encode(TEXTS, prompt_name="query")
            np.testing.assert_array_equal(found, embedder.encode_query(TEXTS))
        async with AsyncReranker(reranker) as other:
            assert await other.rank("one", TEXTS, **ranking) == reranker.rank("one", TEXTS)
            scores = await other.predict([("one", "two")], **ranking)
            np.testing.assert_array_equal(scores, reranker.predict([("one", "two")]))

    asyncio.run(check())
