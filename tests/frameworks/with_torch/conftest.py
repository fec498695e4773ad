"""The model that KeyBERT, BERTopic, SetFit and the evaluators are given."""

import pytest
from quoit_integrations.sentence_transformers import QuoitSentenceTransformer

from quoit import Embedder


@pytest.fixture(scope="session")
def model(embedder: Embedder) -> QuoitSentenceTransformer:
    return QuoitSentenceTransformer(embedder)
