"""KeyBERT: the keywords of a text are those whose vectors are closest to the text's."""

from typing import Any

import pytest
from keybert import KeyBERT
from keybert.backend._sentencetransformers import SentenceTransformerBackend
from quoit_integrations.sentence_transformers import QuoitSentenceTransformer
from sklearn.feature_extraction.text import CountVectorizer

from frameworks.with_torch.themes import TEXTS
from quoit import Embedder

TEXT = " ".join(TEXTS[5:10])


def test_keywords_are_those_of_quoits_vectors(model: QuoitSentenceTransformer, embedder: Embedder) -> None:
    keybert: Any = KeyBERT(model)
    assert isinstance(keybert.model, SentenceTransformerBackend)
    found = keybert.extract_keywords(TEXT, top_n=5)
    words = CountVectorizer(stop_words="english").fit([TEXT]).get_feature_names_out()
    cosines = dict(zip(words, embedder.encode(words) @ embedder.encode(TEXT), strict=True))
    expected = sorted(cosines.items(), key=lambda pair: -pair[1])[:5]
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_a_query_finds_phrases(model: QuoitSentenceTransformer) -> None:
    phrases = KeyBERT(model).extract_keywords(TEXT, keyphrase_ngram_range=(2, 2), use_mmr=True, top_n=3)
    assert len({phrase for phrase, _ in phrases}) == 3
