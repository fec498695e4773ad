"""Milvus: a collection of Milvus Lite finds the answer, and a ranking keeps it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient
from pymilvus.model.base import BaseEmbeddingFunction, BaseRerankFunction
from quoit_integrations.milvus import QuoitEmbeddingFunction, QuoitRerankFunction

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder, Reranker

TEXTS = ["Gravity attracts two bodies.", "The capital of China is Beijing.", "line one\nline two", ""]
QUERY = "What is the capital of China?"


@pytest.fixture
def function() -> QuoitEmbeddingFunction:
    return QuoitEmbeddingFunction(EMBEDDER, **OPTIONS)


def test_vectors_are_quoits(function: QuoitEmbeddingFunction, embedder: Embedder) -> None:
    assert isinstance(function, BaseEmbeddingFunction)
    np.testing.assert_array_equal(function.encode_documents(TEXTS), embedder.encode_document(TEXTS))
    np.testing.assert_array_equal(function(TEXTS), embedder.encode_document(TEXTS))
    np.testing.assert_array_equal(function.encode_queries([QUERY]), [embedder.encode_query(QUERY)])
    assert function.dim == embedder.dim
    small = QuoitEmbeddingFunction(EMBEDDER, instruction="Find", dim=64, **OPTIONS)
    expected = embedder.encode_query(QUERY, instruction="Find", dim=64)
    np.testing.assert_array_equal(small.encode_queries([QUERY]), [expected])
    np.testing.assert_array_equal(small.encode_documents([QUERY]), [embedder.encode_document(QUERY, dim=64)])
    assert small.dim == 64


def test_nothing_gives_nothing(function: QuoitEmbeddingFunction) -> None:
    assert function([]) == function.encode_queries([]) == function.encode_documents([]) == []
    assert QuoitRerankFunction(RERANKER, **OPTIONS)(QUERY, []) == []


def test_documents_are_ranked_as_quoit_does(reranker: Reranker) -> None:
    function = QuoitRerankFunction(RERANKER, **OPTIONS)
    assert isinstance(function, BaseRerankFunction)
    found = function(QUERY, TEXTS, top_k=2)
    assert [each.to_dict() for each in found] == [
        {"text": TEXTS[ranked["index"]], "score": ranked["score"], "index": ranked["index"]}
        for ranked in reranker.rank(QUERY, TEXTS, top_k=2)
    ]
    assert len(function(QUERY, TEXTS, top_k=None)) == 4
    judged = QuoitRerankFunction(reranker, instruction="Find the shortest")(QUERY, TEXTS, top_k=1)
    assert judged[0].score == reranker.rank(QUERY, TEXTS, top_k=1, instruction="Find the shortest")[0]["score"]


def test_a_collection_and_a_ranking_find_the_answer(function: QuoitEmbeddingFunction, tmp_path: Path) -> None:
    client = MilvusClient(str(tmp_path / "notes.db"))
    client.create_collection("notes", dimension=function.dim, metric_type="COSINE")
    rows = [
        {"id": number, "vector": vector, "text": text}
        for number, (text, vector) in enumerate(zip(TEXTS, function.encode_documents(TEXTS), strict=True))
    ]
    client.insert("notes", rows)
    (hits,) = client.search("notes", function.encode_queries([QUERY]), limit=3, output_fields=["text"])
    texts = [hit["entity"]["text"] for hit in hits]
    client.close()
    assert texts[0] == TEXTS[1]
    (best,) = QuoitRerankFunction(RERANKER, **OPTIONS)(QUERY, texts, top_k=1)
    assert best.text == TEXTS[1]


def test_pickles_share_the_model(function: QuoitEmbeddingFunction, reranker: Reranker) -> None:
    again = pickle.loads(pickle.dumps(function))
    assert again.lazy.embedder is function.lazy.embedder
    ranking = QuoitRerankFunction(reranker)
    again = pickle.loads(pickle.dumps(ranking))
    assert [str(each) for each in again(QUERY, TEXTS)] == [str(each) for each in ranking(QUERY, TEXTS)]


def test_a_model_of_the_other_kind_is_refused(embedder: Embedder) -> None:
    with pytest.raises(TypeError, match="is a reranker; this class takes an embedding model"):
        QuoitEmbeddingFunction(RERANKER, **OPTIONS)(TEXTS)
    with pytest.raises(TypeError, match="is an embedding model; this class takes a reranker"):
        QuoitRerankFunction(embedder)  # type: ignore[arg-type]


def test_the_example_of_the_page_finds_the_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(example_of("milvus"), {})
    assert "The capital of China is Beijing." in capsys.readouterr().out
