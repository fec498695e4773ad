"""Work ahead of time changes nothing but when it is done."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from quoit import Embedder
from quoit.artifact import Artifact
from quoit.engine.planner import Limits
from quoit.engine.prefetch import prefetch
from quoit_export.verify.parity import parity_texts
from support import Vectors


def test_order_is_kept_in_one_other_thread() -> None:
    threads: set[int] = set()

    def items() -> Iterator[int]:
        for item in range(100):
            threads.add(threading.get_ident())
            yield item

    assert list(prefetch(items())) == list(range(100))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_no_items_are_none() -> None:
    assert list(prefetch(iter(()))) == []


def test_one_item_is_made_while_the_one_before_it_is_used() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for item, event in enumerate(made):
            event.set()
            yield item

    running = prefetch(items())
    assert next(running) == 0
    assert made[1].wait(10)
    assert not made[2].is_set(), "no more than one ahead"
    running.close()  # type: ignore[attr-defined]


def test_an_error_comes_behind_what_was_made_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    found: list[int] = []
    with pytest.raises(ValueError, match="the third"):
        found.extend(prefetch(items()))
    assert found == [1, 2]


def test_whoever_stops_leaves_no_thread_behind() -> None:
    for item in prefetch(iter(range(1000))):
        if item == 3:
            break
    for thread in threading.enumerate():
        if thread.name.startswith("quoit-prefetch"):
            thread.join(10)
            assert not thread.is_alive()


def test_an_overlapped_pipeline_gives_the_same_bits(byte_artifact: Artifact) -> None:
    """Over many windows and batches."""
    embedder = Embedder(byte_artifact, precision="fp32", provider="cpu")
    small = Limits(stream_tokens=64, rectangle_tokens=256, tiled_from=385)
    texts = [text[:40] for text in parity_texts()] * 3
    expected = embedder.encode(texts)
    embedder.pipeline = replace(embedder.pipeline, overlapped=True, limits=small)
    np.testing.assert_array_equal(embedder.encode(texts), expected)
    stream = embedder.encode_stream(text for text in texts)
    np.testing.assert_array_equal(np.concatenate(list(stream)), expected)


def test_where_texts_end_in_an_error_those_before_it_are_answered(byte_artifact: Artifact) -> None:
    embedder = Embedder(byte_artifact, precision="fp32", provider="cpu")
    embedder.pipeline = replace(embedder.pipeline, overlapped=True)

    def texts() -> Iterator[str]:
        yield from ("one", "two", "three")
        raise OSError("the disk is gone")

    found: list[Vectors] = []
    with pytest.raises(OSError, match="the disk is gone"):
        found.extend(embedder.encode_stream(texts()))
    assert len(np.concatenate(found)) == 3
