"""Models that the integrations load or are given."""

import pytest

from quoit import Embedder, Reranker
from quoit.artifact import Artifact


@pytest.fixture(scope="module")
def embedder(artifact: Artifact) -> Embedder:
    return Embedder(artifact, precision="int8", provider="cpu")


@pytest.fixture(scope="module")
def reranker(rerank_artifact: Artifact) -> Reranker:
    return Reranker(rerank_artifact, precision="int8", provider="cpu")
