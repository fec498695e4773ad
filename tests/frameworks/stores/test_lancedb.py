"""LanceDB: a table finds the answer, also in another process, and rankings are quoit's in all kinds of search."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.embeddings import EmbeddingFunctionConfig, get_registry
from lancedb.index import FTS
from lancedb.pydantic import LanceModel, Vector
from lancedb.rerankers import Reranker as LanceReranker
from quoit_integrations.lancedb import QuoitEmbeddings, QuoitReranker

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder, Reranker

TEXTS = ["Gravity attracts two bodies.", "The capital of China is Beijing.", "China has many cities.", ""]
QUERY = "What is the capital of China?"
ANOTHER_PROCESS = """
import sys
import lancedb
import quoit_integrations.lancedb
notes = lancedb.connect(sys.argv[1]).open_table("notes")
print(notes.search(sys.argv[2]).limit(1).to_list()[0]["text"])
notes.add([{"text": "a new row"}])
"""


@pytest.fixture
def function() -> QuoitEmbeddings:
    made: QuoitEmbeddings = QuoitEmbeddings.create(name=EMBEDDER, **OPTIONS)
    return made


def table(folder: Path, function: QuoitEmbeddings) -> Any:
    class Note(LanceModel):
        text: str | None = function.SourceField()
        vector: Vector(function.ndims(), nullable=True) = function.VectorField()  # type: ignore[valid-type]

    notes = lancedb.connect(folder).create_table("notes", schema=Note)
    notes.add([{"text": text} for text in TEXTS])
    return notes


def test_vectors_are_quoits(function: QuoitEmbeddings, embedder: Embedder) -> None:
    expected = embedder.encode_document(TEXTS)
    for texts in (TEXTS, np.array(TEXTS), pa.array(TEXTS), pa.chunked_array([TEXTS])):
        np.testing.assert_array_equal(function.compute_source_embeddings(texts), expected)
    np.testing.assert_array_equal(function.compute_source_embeddings(TEXTS[1]), expected[1:2])
    np.testing.assert_array_equal(function.compute_query_embeddings(QUERY), [embedder.encode_query(QUERY)])
    assert function.compute_source_embeddings([]) == []
    assert function.ndims() == embedder.dim
    small = get_registry().get("quoit").create(name=EMBEDDER, instruction="Find", dim=64, **OPTIONS)
    expected = embedder.encode_query([QUERY], instruction="Find", dim=64)
    np.testing.assert_array_equal(small.compute_query_embeddings(QUERY), expected)
    assert small.ndims() == len(small.compute_source_embeddings(QUERY)[0]) == 64


def test_a_null_has_no_vector(function: QuoitEmbeddings, embedder: Embedder, tmp_path: Path) -> None:
    first, null, last = function.compute_source_embeddings(["a", None, "b"])
    np.testing.assert_array_equal([first, last], embedder.encode_document(["a", "b"]))
    assert null is None
    notes = table(tmp_path, function)
    notes.add([{"text": None}], on_bad_vectors="null")
    rows = notes.to_arrow().to_pylist()
    assert [row["vector"] is None for row in rows] == [False, False, False, False, True]


def test_a_table_holds_quoits_vectors_and_finds_the_answer(
    function: QuoitEmbeddings, embedder: Embedder, tmp_path: Path
) -> None:
    notes = table(tmp_path, function)
    stored = np.stack(notes.to_pandas()["vector"].to_numpy())
    np.testing.assert_array_equal(stored, embedder.encode_document(TEXTS))
    best = notes.search(QUERY).distance_type("dot").limit(1).to_list()[0]
    assert best["text"] == TEXTS[1]
    cosine = embedder.encode_query(QUERY) @ embedder.encode_document(TEXTS[1])
    assert best["_distance"] == pytest.approx(1 - cosine, abs=1e-5)


def test_another_process_opens_a_table_searches_and_adds(tmp_path: Path, embedder: Embedder) -> None:
    notes = table(tmp_path, QuoitEmbeddings.create(name=EMBEDDER, dim=64, **OPTIONS))
    command = [sys.executable, "-c", ANOTHER_PROCESS, str(tmp_path), QUERY]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == TEXTS[1]
    notes.checkout_latest()
    added = notes.to_arrow().to_pylist()[-1]
    np.testing.assert_array_equal(np.float32(added["vector"]), embedder.encode_document("a new row", dim=64))


def test_arguments_and_pickles_give_the_same_function(embedder: Embedder) -> None:
    function = QuoitEmbeddings.from_embedder(embedder, instruction="Find", dim=64)
    config = EmbeddingFunctionConfig(vector_column="vector", source_column="text", function=function)
    metadata = get_registry().get_table_metadata([config])
    rebuilt = get_registry().parse_functions(metadata)["vector"].function
    for again in (rebuilt, pickle.loads(pickle.dumps(function))):
        assert again == function
        expected = function.compute_query_embeddings(QUERY)
        np.testing.assert_array_equal(again.compute_query_embeddings(QUERY), expected)
    np.testing.assert_array_equal(expected, embedder.encode_query([QUERY], instruction="Find", dim=64))
    assert function._lazy.embedder is embedder
    ranking = pickle.loads(pickle.dumps(QuoitReranker(RERANKER, instruction="Find", **OPTIONS)))
    assert (ranking.handle.name, ranking.instruction) == (RERANKER, "Find")


def scores(rows: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(row["text"], row["_relevance_score"]) for row in rows]


@pytest.mark.parametrize("return_score", ["relevance", "all"])
def test_every_kind_of_search_is_ranked_as_quoit_does(
    function: QuoitEmbeddings, reranker: Reranker, tmp_path: Path, return_score: str
) -> None:
    notes = table(tmp_path, function)
    notes.create_index("text", config=FTS())
    ours = QuoitReranker(RERANKER, return_score=return_score, **OPTIONS)
    assert isinstance(ours, LanceReranker)
    vector = notes.search(QUERY, query_type="vector").rerank(ours).to_list()
    fts = notes.search("China", query_type="fts").rerank(ours).to_list()
    hybrid = notes.search("China", query_type="hybrid").rerank(ours).to_list()
    for rows, query, texts in ((vector, QUERY, TEXTS), (fts, "China", TEXTS[1:3]), (hybrid, "China", TEXTS)):
        expected = [(texts[each["index"]], each["score"]) for each in reranker.rank(query, texts)]
        assert sorted(scores(rows)) == sorted(expected)
        assert [score for _, score in scores(rows)] == [score for _, score in expected]
    assert vector[0]["text"] == TEXTS[1]
    assert [("_distance" in vector[0]), ("_score" in fts[0])] == [return_score == "all"] * 2


@pytest.mark.parametrize("return_score", ["relevance", "all"])
def test_no_results_stay_none(function: QuoitEmbeddings, tmp_path: Path, return_score: str) -> None:
    notes = table(tmp_path, function)
    notes.create_index("text", config=FTS())
    ours = QuoitReranker(RERANKER, return_score=return_score, **OPTIONS)
    assert notes.search("absent", query_type="fts").rerank(ours).to_list() == []
    for kind in ("vector", "hybrid"):
        assert notes.search(QUERY, query_type=kind).where("text = 'x'", prefilter=True).rerank(ours).to_list() == []


def test_a_model_of_the_other_kind_is_refused_at_once() -> None:
    function = QuoitEmbeddings.create(name=RERANKER, **OPTIONS)
    with pytest.raises(TypeError, match="is a reranker; this class takes an embedding model"):
        function.ndims()
    with pytest.raises(Exception, match="is a reranker; this class takes an embedding model"):
        function.compute_source_embeddings_with_retry(TEXTS)
    with pytest.raises(TypeError, match="is an embedding model; this class takes a reranker"):
        QuoitReranker(EMBEDDER, **OPTIONS).rerank_vector(QUERY, pa.table({"text": TEXTS}))


def test_the_example_of_the_page_finds_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("lancedb"), {})
    assert "The capital of China is Beijing." in capsys.readouterr().out
