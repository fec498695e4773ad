"""The handle of a model: it loads late, shares what it loads, and travels by path."""

import copy
import pickle
from pathlib import Path

import pytest
from quoit_integrations.handles import LazyEmbedder

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER
from quoit import Embedder, Reranker

TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies."]


def test_each_prompt_is_quoits(embedder: Embedder) -> None:
    lazy = LazyEmbedder(EMBEDDER, options=OPTIONS)
    assert (lazy.encode(TEXTS) == embedder.encode_document(TEXTS)).all()
    assert (lazy.encode(TEXTS, "query") == embedder.encode_query(TEXTS)).all()
    assert (lazy.encode(TEXTS, "plain") == embedder.encode(TEXTS)).all()
    small = LazyEmbedder(EMBEDDER, prompt="query", instruction="Find", dim=64, options=OPTIONS)
    assert (small.encode(TEXTS) == embedder.encode_query(TEXTS, instruction="Find", dim=64)).all()
    assert (lazy.dim, small.dim) == (embedder.dim, 64)


def test_handles_share_a_model_that_is_loaded_late(embedder: Embedder) -> None:
    lazy = LazyEmbedder("absent")
    assert "embedder" not in vars(lazy)
    first, second = LazyEmbedder(EMBEDDER, options=OPTIONS), LazyEmbedder(Path(EMBEDDER), options=OPTIONS)
    assert first.embedder is second.embedder
    assert LazyEmbedder(embedder).embedder is embedder


def test_pickles_hold_no_model(embedder: Embedder) -> None:
    lazy = LazyEmbedder(EMBEDDER, prompt="query", dim=64, options=OPTIONS)
    vectors = lazy.encode(TEXTS)
    again = pickle.loads(pickle.dumps(lazy))
    assert again._handle._model is None
    assert again.embedder is lazy.embedder
    assert (again.encode(TEXTS) == vectors).all()
    loaded = pickle.loads(pickle.dumps(LazyEmbedder(embedder)))
    assert loaded.options["provider"] == "cpu"
    assert (loaded.encode(TEXTS) == embedder.encode_document(TEXTS)).all()
    assert copy.deepcopy(lazy).embedder is lazy.embedder


def test_what_cannot_be_meant_is_refused(embedder: Embedder, reranker: Reranker) -> None:
    with pytest.raises(ValueError, match="prompt is 'passage'; choose one of"):
        LazyEmbedder(EMBEDDER, prompt="passage")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="given beside a loaded model"):
        LazyEmbedder(embedder, options=OPTIONS)
    for model in (RERANKER, reranker):
        with pytest.raises(TypeError, match="is a reranker; this class takes an embedding model"):
            LazyEmbedder(model).encode(TEXTS)  # type: ignore[arg-type]
