"""semantic-router: a query takes its route, with a prompt for each side."""

import asyncio
import pickle

import pytest
from quoit_integrations.semantic_router import QuoitEncoder
from semantic_router import IndexedRouter, Route
from semantic_router.encoders import DenseEncoder

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder

ROUTES = [
    Route(name="physics", utterances=["gravity attracts two bodies", "how fast is light?"]),
    Route(name="geography", utterances=["the capital of a country", "which city is the capital of France?"]),
]
TEXTS = ["the capital of a country", "line one\nline two"]
QUERY = "What is the capital of China?"


@pytest.fixture
def encoder() -> QuoitEncoder:
    return QuoitEncoder(name=EMBEDDER, options=OPTIONS)


def test_vectors_are_quoits(encoder: QuoitEncoder, embedder: Embedder) -> None:
    assert isinstance(encoder, DenseEncoder)
    documents, queries = embedder.encode_document(TEXTS).tolist(), embedder.encode_query(TEXTS).tolist()
    assert encoder(TEXTS) == encoder.encode_documents(TEXTS) == documents
    assert encoder.encode_queries(TEXTS) == queries
    assert asyncio.run(encoder.acall(TEXTS)) == asyncio.run(encoder.aencode_documents(TEXTS)) == documents
    assert asyncio.run(encoder.aencode_queries(TEXTS)) == queries
    assert encoder([]) == encoder.encode_queries([]) == []
    assert encoder(TEXTS[:1]) == documents[:1]


def test_routes_may_have_the_prompt_of_queries(embedder: Embedder) -> None:
    encoder = QuoitEncoder.from_embedder(embedder, routes="query", instruction="Route", dim=64)
    expected = embedder.encode_query(TEXTS, instruction="Route", dim=64).tolist()
    assert encoder(TEXTS) == encoder.encode_queries(TEXTS) == expected
    assert encoder._lazy.embedder is embedder


def test_a_query_takes_its_route_with_a_prompt_for_each_side(encoder: QuoitEncoder, embedder: Embedder) -> None:
    router = IndexedRouter(encoder, ROUTES, aggregation="max")
    choice = router(QUERY)
    assert choice.name == "geography"
    scores = embedder.encode_document(list(ROUTES[1].utterances)) @ embedder.encode_query(QUERY)
    assert choice.confidence == pytest.approx(float(scores.max()), abs=1e-5)
    assert router("Why do apples fall to the ground, is it gravity?").name == "physics"
    assert asyncio.run(router.acall(QUERY)).name == "geography"


def test_settings_and_pickles_give_the_same_vectors(encoder: QuoitEncoder) -> None:
    vectors = encoder(TEXTS)
    for again in (QuoitEncoder(**encoder.model_dump()), pickle.loads(pickle.dumps(encoder))):
        assert again(TEXTS) == vectors
        assert again._lazy.embedder is encoder._lazy.embedder


def test_a_reranker_and_an_unknown_prompt_are_refused() -> None:
    with pytest.raises(TypeError, match="is a reranker"):
        IndexedRouter(QuoitEncoder(name=RERANKER, options=OPTIONS), ROUTES)
    with pytest.raises(ValueError, match="routes"):
        QuoitEncoder(name=EMBEDDER, routes="passage")


def test_the_example_takes_the_route(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("semantic_router"), {})
    assert capsys.readouterr().out == "geography\n"
