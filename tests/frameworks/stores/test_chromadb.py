"""Chroma: a collection finds the answer, and finds it again in another process."""

import pickle
import subprocess
import sys
from pathlib import Path

import chromadb
import numpy as np
import pytest
from chromadb.utils.embedding_functions import config_to_embedding_function
from quoit_integrations.chromadb import QuoitEmbeddingFunction

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder, Reranker

TEXTS = ["Gravity attracts two bodies.", "The capital of China is Beijing.", "line one\nline two", ""]
QUERY = "What is the capital of China?"
ANOTHER_PROCESS = """
import sys
import chromadb
import quoit_integrations.chromadb
collection = chromadb.PersistentClient(sys.argv[1]).get_collection("notes")
print(collection.query(query_texts=[sys.argv[2]], n_results=1)["documents"][0][0])
"""


@pytest.fixture
def function() -> QuoitEmbeddingFunction:
    return QuoitEmbeddingFunction(EMBEDDER, **OPTIONS)


def test_vectors_are_quoits(function: QuoitEmbeddingFunction, embedder: Embedder) -> None:
    np.testing.assert_array_equal(function(TEXTS), embedder.encode_document(TEXTS))
    np.testing.assert_array_equal(function([TEXTS[1]]), [embedder.encode_document(TEXTS[1])])
    np.testing.assert_array_equal(function.embed_query([QUERY]), [embedder.encode_query(QUERY)])
    small = QuoitEmbeddingFunction(EMBEDDER, instruction="Find", dim=64, **OPTIONS)
    np.testing.assert_array_equal(
        small.embed_query([QUERY]), [embedder.encode_query(QUERY, instruction="Find", dim=64)]
    )
    np.testing.assert_array_equal(small([QUERY]), [embedder.encode_document(QUERY, dim=64)])


def test_nothing_is_refused_by_chroma(function: QuoitEmbeddingFunction) -> None:
    assert function.embed_query([]) == []
    with pytest.raises(ValueError, match="Expected Embeddings to be non-empty"):
        function([])


def test_a_collection_holds_quoits_vectors_and_finds_by_cosine(
    function: QuoitEmbeddingFunction, embedder: Embedder
) -> None:
    collection = chromadb.EphemeralClient().create_collection("cosine", embedding_function=function)
    collection.add(ids=[str(number) for number in range(4)], documents=TEXTS)
    stored = collection.get(include=["embeddings"])["embeddings"]
    np.testing.assert_allclose(stored, embedder.encode_document(TEXTS), atol=1e-6)  # Chroma scales them once more
    found = collection.query(query_texts=[QUERY], n_results=1)
    assert found["documents"] == [[TEXTS[1]]]
    cosine = embedder.encode_query(QUERY) @ embedder.encode_document(TEXTS[1])
    assert found["distances"] == [[pytest.approx(1 - cosine, abs=1e-5)]]


def test_another_process_opens_a_collection_and_finds_the_answer(tmp_path: Path) -> None:
    small = QuoitEmbeddingFunction(EMBEDDER, dim=64, **OPTIONS)
    collection = chromadb.PersistentClient(tmp_path).create_collection("notes", embedding_function=small)
    collection.add(ids=[str(number) for number in range(4)], documents=TEXTS)
    command = [sys.executable, "-c", ANOTHER_PROCESS, str(tmp_path), QUERY]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == TEXTS[1]


def test_settings_and_pickles_give_the_same_function(embedder: Embedder) -> None:
    function = QuoitEmbeddingFunction(embedder, instruction="Find", dim=64)
    rebuilt = config_to_embedding_function({"name": "quoit", "config": function.get_config()})
    for again in (rebuilt, pickle.loads(pickle.dumps(function))):
        assert isinstance(again, QuoitEmbeddingFunction)
        assert again.get_config() == function.get_config()
        np.testing.assert_array_equal(again.embed_query([QUERY]), function.embed_query([QUERY]))
        assert again.lazy.embedder.device == "cpu"
    assert function.lazy.embedder is embedder


def test_the_model_is_loaded_at_the_first_call_and_shared(function: QuoitEmbeddingFunction) -> None:
    assert QuoitEmbeddingFunction("models/absent").get_config()["model"] == "models/absent"
    assert QuoitEmbeddingFunction(EMBEDDER, **OPTIONS).lazy.embedder is function.lazy.embedder


def test_a_reranker_and_options_of_a_loaded_model_are_refused(embedder: Embedder, reranker: Reranker) -> None:
    with pytest.raises(TypeError, match="is a reranker; this class takes an embedding model"):
        QuoitEmbeddingFunction(RERANKER, **OPTIONS)(TEXTS)
    with pytest.raises(TypeError, match="is a reranker; this class takes an embedding model"):
        QuoitEmbeddingFunction(reranker)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="threads given beside a loaded model; load it with them"):
        QuoitEmbeddingFunction(embedder, threads=1)


def test_the_example_of_the_page_finds_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("chromadb"), {})
    assert "The capital of China is Beijing." in capsys.readouterr().out
