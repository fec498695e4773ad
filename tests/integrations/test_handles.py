"""The handle of a model: it loads late, shares what it loads, and travels by path."""

import copy
import pickle
from pathlib import Path

import pytest
from quoit_integrations.handles import LazyEmbedder

from quoit import Embedder, Reranker
from quoit.artifact import Artifact

TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies."]
OPTIONS = {"precision": "int8", "provider": "cpu"}


@pytest.fixture(scope="module")
def folder(artifact: Artifact) -> str:
    return str(artifact.folder)


def test_each_prompt_is_quoits(folder: str, embedder: Embedder) -> None:
    lazy = LazyEmbedder(folder, options=OPTIONS)
    assert (lazy.encode(TEXTS) == embedder.encode_document(TEXTS)).all()
    assert (lazy.encode(TEXTS, "query") == embedder.encode_query(TEXTS)).all()
    assert (lazy.encode(TEXTS, "plain") == embedder.encode(TEXTS)).all()
    small = LazyEmbedder(folder, prompt="query", instruction="Find", dim=32, options=OPTIONS)
    assert (small.encode(TEXTS) == embedder.encode_query(TEXTS, instruction="Find", dim=32)).all()
    assert (lazy.dim, small.dim) == (embedder.dim, 32)


def test_handles_share_a_model_that_is_loaded_late(folder: str, embedder: Embedder) -> None:
    lazy = LazyEmbedder("absent")
    assert lazy.model == "absent"
    first, second = LazyEmbedder(folder, options=OPTIONS), LazyEmbedder(Path(folder), options=OPTIONS)
    assert first.embedder is second.embedder
    assert LazyEmbedder(embedder).embedder is embedder


def test_pickles_hold_no_model(folder: str, embedder: Embedder) -> None:
    lazy = LazyEmbedder(folder, prompt="query", dim=32, options=OPTIONS)
    vectors = lazy.encode(TEXTS)
    again = pickle.loads(pickle.dumps(lazy))
    assert again._handle._model is None
    assert again.embedder is lazy.embedder
    assert (again.encode(TEXTS) == vectors).all()
    loaded = pickle.loads(pickle.dumps(LazyEmbedder(embedder)))
    assert loaded.options["provider"] == "cpu"
    assert (loaded.encode(TEXTS) == embedder.encode_document(TEXTS)).all()
    assert copy.deepcopy(lazy).embedder is lazy.embedder


def test_what_cannot_be_meant_is_refused(
    folder: str, embedder: Embedder, rerank_artifact: Artifact, reranker: Reranker
) -> None:
    with pytest.raises(ValueError, match="prompt is 'passage'; choose one of"):
        LazyEmbedder(folder, prompt="passage")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="given beside a loaded model"):
        LazyEmbedder(embedder, options=OPTIONS)
    for model in (str(rerank_artifact.folder), reranker):
        with pytest.raises(TypeError, match="is a reranker; this class takes an embedding model"):
            LazyEmbedder(model).encode(TEXTS)  # type: ignore[arg-type]
