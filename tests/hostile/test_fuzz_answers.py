"""Vectors and scores of any texts: finite, of unit length, and to the bit what each text has alone."""

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import ANY_STRINGS, NO_STRINGS, TEXTS, fuzz
from quoit.artifact import Precision
from quoit.errors import InputError
from support import Embedders, Rerankers, Vectors

PRECISIONS: st.SearchStrategy[Precision] = st.sampled_from(["fp32", "fp16", "int8"])
SHORT = TEXTS.map(lambda text: text[:12]) | st.sampled_from(
    ["", " ", "a", "the same", "the same text", "<|endoftext|>"]
)
ITEMS = st.lists(SHORT | ANY_STRINGS | NO_STRINGS, min_size=1, max_size=4)


def is_text(value: object) -> bool:
    """Whether something is a string without lone surrogates."""
    return isinstance(value, str) and not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


@pytest.fixture(scope="module")
def alone(embedders: Embedders) -> Any:
    """The vector of a text that is encoded alone."""
    found: Any = cache(lambda precision, text: embedders(precision).encode(text))
    return found


@fuzz(300)
@given(PRECISIONS, st.lists(SHORT, max_size=6))
def test_a_vector_is_finite_of_unit_length_and_the_same_alone(
    embedders: Embedders, alone: Any, precision: Precision, texts: list[str]
) -> None:
    embedder = embedders(precision)
    vectors: Vectors = embedder.encode(texts)
    assert vectors.shape == (len(texts), embedder.dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        assert (vector == alone(precision, text)).all()


@fuzz(400)
@given(ITEMS)
def test_what_is_no_text_is_refused_by_its_index(embedders: Embedders, items: list[Any]) -> None:
    bad = next((index for index, item in enumerate(items) if not is_text(item)), None)
    if bad is None:
        assert embedders("fp32").encode(items).shape == (len(items), embedders("fp32").dim)
        return
    kind = InputError if isinstance(items[bad], str) else TypeError
    with pytest.raises(kind, match=f"text {bad} "):
        embedders("fp32").encode(items)


@fuzz(200)
@given(PRECISIONS, SHORT, st.lists(SHORT, max_size=5), st.none() | st.integers(1, 7))
def test_a_ranking_is_of_the_scores_that_pairs_have_alone(
    rerankers: Rerankers, precision: Precision, query: str, documents: list[str], top_k: int | None
) -> None:
    reranker = rerankers(precision)
    logits = [float(reranker.predict([(query, document)], activation="logit")[0]) for document in documents]
    assert reranker.predict([(query, document) for document in documents], activation="logit").tolist() == logits
    ranking = reranker.rank(query, documents, top_k=top_k, return_documents=True)
    expected = sorted(range(len(documents)), key=lambda index: (-logits[index], index))[:top_k]
    assert [ranked["index"] for ranked in ranking] == expected
    assert [ranked["text"] for ranked in ranking] == [documents[index] for index in expected]
    assert all(0 <= ranked["score"] <= 1 for ranked in ranking)


@fuzz(400)
@given(SHORT | ANY_STRINGS | NO_STRINGS, ITEMS)
def test_what_is_no_pair_of_texts_is_refused_by_its_index(rerankers: Rerankers, query: Any, items: list[Any]) -> None:
    bad = next((index for index, item in enumerate(items) if not is_text(item)), None)
    if is_text(query) and bad is None:
        assert len(rerankers("fp32").rank(query, items)) == len(items)
        return
    name = "query" if not is_text(query) else f"document {bad}"
    with pytest.raises((TypeError, InputError), match=re.escape(f"{name} ")):
        rerankers("fp32").rank(query, items)
