"""Daft: columns of vectors are quoit's, null stays null, and a query finds its row."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import daft
import numpy as np
import pytest
from daft import DataFrame, DataType
from daft.functions import embed_text
from quoit_integrations.daft import QuoitProvider

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder

TEXTS = ["Gravity attracts two bodies.", None, "The capital of China is Beijing.", "line one\nline two", ""]
QUERY = "What is the capital of China?"


@pytest.fixture
def provider() -> QuoitProvider:
    return QuoitProvider(EMBEDDER, options=OPTIONS)


def embedded(texts: list[str | None], **options: Any) -> DataFrame:
    frame = daft.from_pydict({"text": texts})
    return frame.with_column("vector", embed_text(frame["text"].cast(DataType.string()), **options))


def equal(found: list[Any], expected: Sequence[np.ndarray | None]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(a is None if b is None else a is not None and np.array_equal(a, b) for a, b in pairs)


def test_vectors_are_quoits_and_null_stays_null(provider: QuoitProvider, embedder: Embedder) -> None:
    frame = embedded(TEXTS, provider=provider)
    assert frame.schema()["vector"].dtype == DataType.embedding(DataType.float32(), embedder.dim)
    expected = [None if text is None else embedder.encode_document(text) for text in TEXTS]
    assert equal(frame.to_pydict()["vector"], expected)
    assert equal(embedded(TEXTS, provider=provider, batch_size=2).to_pydict()["vector"], expected)
    assert embedded([None, None], provider=provider).to_pydict()["vector"] == [None, None]
    nothing = embedded(TEXTS, provider=provider).where(daft.col("text") == "absent")
    assert nothing.to_pydict() == {"text": [], "vector": []}


def test_prompts_and_dimensions_are_chosen(embedder: Embedder) -> None:
    expected = [embedder.encode_query(QUERY, instruction="Find", dim=64)]
    for options in (
        {"provider": QuoitProvider(embedder, prompt="query", instruction="Find")},
        {"provider": QuoitProvider(embedder), "prompt": "query", "instruction": "Find"},
        {"provider": QuoitProvider(options=OPTIONS), "model": EMBEDDER, "prompt": "query", "instruction": "Find"},
    ):
        frame = embedded([QUERY], dimensions=64, **options)
        assert frame.schema()["vector"].dtype == DataType.embedding(DataType.float32(), 64)
        assert equal(frame.to_pydict()["vector"], expected)


def test_a_query_finds_its_row(provider: QuoitProvider) -> None:
    rows = embedded(TEXTS, provider=provider).where(daft.col("vector").not_null()).to_pylist()
    (query,) = embedded([QUERY], provider=provider, prompt="query").to_pydict()["vector"]
    assert max(rows, key=lambda row: float(row["vector"] @ query))["text"] == TEXTS[2]


def test_vectors_are_written_and_read(tmp_path: Path, provider: QuoitProvider) -> None:
    frame = embedded(TEXTS, provider=provider).collect()
    frame.write_parquet(str(tmp_path))
    read = daft.read_parquet(f"{tmp_path}/*.parquet").to_pydict()
    found = dict(zip(read["text"], read["vector"], strict=True))
    expected = frame.to_pydict()["vector"]
    assert equal([found[text] for text in TEXTS], expected)


def test_a_descriptor_travels_by_path_and_sessions_know_the_provider(embedder: Embedder) -> None:
    descriptor = pickle.loads(pickle.dumps(QuoitProvider(EMBEDDER, options=OPTIONS).get_text_embedder(dimensions=64)))
    assert "embedder" not in vars(descriptor.lazy)
    assert descriptor.get_model() == EMBEDDER
    assert descriptor.get_options() == OPTIONS
    assert descriptor.get_udf_options().max_retries == 0
    (vector,) = descriptor.instantiate().embed_text([QUERY])
    assert np.array_equal(vector, embedder.encode_document(QUERY, dim=64))
    with daft.session() as session:
        session.attach_provider(QuoitProvider(embedder))
        found = embedded([QUERY], provider="quoit").to_pydict()["vector"]
    assert equal(found, [embedder.encode_document(QUERY)])


def test_what_cannot_be_meant_is_refused(provider: QuoitProvider) -> None:
    with pytest.raises(TypeError, match="is a reranker"):
        embedded(TEXTS, provider=QuoitProvider(RERANKER, options=OPTIONS))
    with pytest.raises(TypeError, match="embed_text has no option threads"):
        embedded(TEXTS, provider=provider, threads=2)
    with pytest.raises(ValueError, match="no model"):
        embedded(TEXTS, provider=QuoitProvider())
    with pytest.raises(ValueError, match="prompt is 'passage'"):
        embedded(TEXTS, provider=provider, prompt="passage")


def test_the_example_finds_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("daft"), {})
    assert capsys.readouterr().out.endswith("The capital of China is Beijing.\n")
