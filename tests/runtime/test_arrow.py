"""Columns of Arrow, Polars and pandas become columns of vectors; null stays null."""

import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import quoit.arrow
from quoit import Embedder, InputError
from quoit.artifact import Artifact

TEXTS = ["one", None, "two words", "", None]


@pytest.fixture(scope="module")
def embedder(byte_artifact: Artifact) -> Embedder:
    return Embedder(byte_artifact, precision="fp32", provider="cpu")


COLUMNS: dict[str, Callable[[list[str | None]], Any]] = {
    "Array": pa.array,
    "ChunkedArray": lambda texts: pa.chunked_array([texts[:2], texts[2:]], pa.string()),
    "LargeStringArray": lambda texts: pa.array(texts, pa.large_string()),
    "StringViewArray": lambda texts: pa.array(texts, pa.string_view()),
    "DictionaryArray": lambda texts: pa.array(texts, pa.string()).dictionary_encode(),
    "sliced": lambda texts: pa.array(["x", *texts], pa.string()).slice(1),
    "Polars": lambda texts: pl.Series(texts, dtype=pl.String),
    "pandas": lambda texts: pd.Series(texts, dtype="str"),
    "table": lambda texts: pa.table({"text": pa.array(texts, pa.string())}),
    "Polars frame": lambda texts: pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)}),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], [None, None], []])
def test_a_column_becomes_vectors(embedder: Embedder, kind: str, texts: list[str | None]) -> None:
    found = quoit.arrow.embed(embedder, COLUMNS[kind](texts))
    assert found.type == pa.list_(pa.float32(), 96)
    assert found.is_null().to_pylist() == [text is None for text in texts]
    present = [text for text in texts if text is not None]
    expected = embedder.encode_document(present)
    vectors = found.drop_null().flatten().to_numpy().reshape(-1, 96)
    np.testing.assert_array_equal(vectors, expected)


def test_vectors_may_be_smaller_and_of_another_type(embedder: Embedder) -> None:
    found = quoit.arrow.embed(embedder, pa.array(TEXTS), dim=40, dtype="float16", normalize=False)
    assert found.type == pa.list_(pa.float16(), 40)
    bits = quoit.arrow.embed(embedder, pa.array(TEXTS), dtype="ubinary")
    assert bits.type == pa.list_(pa.uint8(), 12)
    np.testing.assert_array_equal(
        bits.drop_null().flatten().to_numpy().reshape(-1, 12),
        embedder.encode(["one", "two words", ""], dtype="ubinary"),
    )


def test_queries_have_their_prompt(embedder: Embedder) -> None:
    found = quoit.arrow.embed(embedder, pa.array(["one"]), prompt=embedder.query_prompt())
    np.testing.assert_array_equal(found.flatten().to_numpy(), embedder.encode_query("one"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["one"], "column is list, which does not speak Arrow"),
        (pa.array([1]), "column is of int64, and not of strings"),
        (pa.table({"a": ["x"], "b": ["y"]}), "column is of struct<.*and not of strings"),
    ],
)
def test_anything_else_is_refused(embedder: Embedder, column: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quoit.arrow.embed(embedder, column)


def test_without_pyarrow_the_extra_is_named(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    column = pl.Series(["one"])
    monkeypatch.setitem(sys.modules, "pyarrow", cast("Any", None))
    with pytest.raises(InputError, match=r"pyarrow is not installed; `pip install 'quoit\[parquet\]'`"):
        quoit.arrow.embed(embedder, column)
