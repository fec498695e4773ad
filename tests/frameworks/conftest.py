"""The artifacts that the frameworks' packages load, and what quoit itself answers of them."""

import os

import pytest

from quoit import Embedder, Reranker

EMBEDDER = os.environ["QUOIT_EMBEDDER"]
RERANKER = os.environ["QUOIT_RERANKER"]
OPTIONS = {"provider": "cpu"}


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(EMBEDDER, provider="cpu")


@pytest.fixture(scope="session")
def reranker() -> Reranker:
    return Reranker(RERANKER, provider="cpu")
