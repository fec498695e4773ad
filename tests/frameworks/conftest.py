"""What quoit itself answers of the artifacts that the frameworks' packages load."""

import pytest

from frameworks.harness import EMBEDDER, RERANKER
from quoit import Embedder, Reranker


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(EMBEDDER, provider="cpu")


@pytest.fixture(scope="session")
def reranker() -> Reranker:
    return Reranker(RERANKER, provider="cpu")
