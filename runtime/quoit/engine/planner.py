"""Decides which token rows run together.

A pure function of token ids and limits. The model is causal, so a token's state depends only on the tokens before it,
and every distinct token prefix of a batch needs computing once: rows are sorted as sequences of ids, and each is
compared with its neighbour. Texts with the same ids are one row. A prefix whose keys and values are cached needs no
computing at all. This module does not know what the ids mean, nor how a batch becomes a graph's inputs
(`quoit.engine.layouts`).

Lengths are in tokens. P tokens of a cached prefix, R rows of a batch.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Row = Sequence[int] | NDArray[np.integer[Any]]
Key = bytes
"""A row's ids as big-endian uint32, so that comparing bytes compares ids."""

ID_BYTES = 4
CLASSES_PER_DOUBLING = 4
"""Number of length classes from one length to twice that length."""
TILED_STEP = 16
"""Positions of a row with tiled attention are a multiple of this; see `Limits.attended_positions`."""


@dataclass(frozen=True)
class PaddingLimit:
    """How much of a batch's rectangle may be padding.

    Attributes:
        max_share: the maximum share of padding.
        free_positions: rectangles of at most this many positions may have any padding.
    """

    max_share: float
    free_positions: int

    def allows(self, rectangle: int, padding: int) -> bool:
        """Whether a rectangle of so many positions may have so much padding."""
        return rectangle <= self.free_positions or padding <= self.max_share * rectangle


@dataclass(frozen=True)
class Limits:
    """What one batch may hold; a single row longer than a limit is a batch of its own.

    Attributes:
        stream_tokens: maximum number of distinct tokens that go through the linear layers.
        rectangle_tokens: maximum number of positions that attention sees, padding included.
        tiled_from: rows of at least this many tokens use tiled attention; None where no row does. A row's own length
            decides, so that its vector cannot depend on its batch.
        share_prefixes: whether rows share the tokens they begin with.
        padding: how much of the rectangle may be padding; None for no limit.
        max_positions: positions that the graph has RoPE tables for, the model's `max_tokens`; None for no limit.
    """

    stream_tokens: int
    rectangle_tokens: int
    tiled_from: int | None = None
    share_prefixes: bool = True
    padding: PaddingLimit | None = None
    max_positions: int | None = None

    def is_tiled(self, tokens: int) -> bool:
        """Whether a row of so many tokens has tiled attention."""
        return self.tiled_from is not None and tokens >= self.tiled_from

    def untiled_tokens(self, max_tokens: int) -> int:
        """Tokens of the longest row without tiled attention, of rows of at most `max_tokens`."""
        return max_tokens if self.tiled_from is None else min(self.tiled_from - 1, max_tokens)

    def attended_positions(self, tokens: int) -> int:
        """Number of positions that attention sees for a row: its tokens, plus padding where attention is tiled.

        Tiled attention must give a token the same bits in a rectangle of any width. Two of its steps depend on more
        than the token (`MlasFlashAttentionGQA` and what it calls in onnxruntime 1.32):

        - Queries are taken in tiles. Where a tile has one row, `MlasSgemmOperation` multiplies by another kernel, which
          rounds otherwise. So the last position of a row is always padding: no token is alone in its tile, whatever the
          size of a tile, which follows from the CPU's caches.
        - `MlasComputeSumExpF32Kernel` without AVX adds what a row has beyond a multiple of four after the rest. So a
          row's positions are a multiple of TILED_STEP.

        A row within TILED_STEP tokens of `max_positions` has no room for both. It has `max_positions` positions, in
        every batch, since no rectangle is wider.
        """
        if not self.is_tiled(tokens):
            return tokens
        padded = (tokens // TILED_STEP + 1) * TILED_STEP
        return padded if self.max_positions is None else max(min(padded, self.max_positions), tokens)


@dataclass(frozen=True)
class Batch:
    """Rows that run together, and which texts they answer.

    Attributes:
        rows: [R] distinct rows of int64 ids, sorted as sequences of ids.
        shared_tokens: [R] leading tokens of each row that the row before it has too, and that are computed once; 0
            where rows share nothing.
        cached_tokens: [R] leading tokens of each row that are the cached prefix's. The last token of a row is computed
            all the same, for its state.
        prefix_tokens: P, or 0 where no row begins with the cached prefix.
        positions: [R] int32, positions that attention sees of each row; with tiled attention, padding is among them.
        is_tiled: whether attention runs in tiles.
        texts: [n] int64, the positions of the texts answered here.
        output_row: [n] int64, the row in 0..R-1 that answers each of them.
    """

    rows: list[Ids]
    shared_tokens: list[int]
    cached_tokens: list[int]
    prefix_tokens: int
    positions: NDArray[np.int32]
    is_tiled: bool
    texts: Ids
    output_row: Ids

    @cached_property
    def stream_tokens(self) -> int:
        """Number of distinct tokens to compute."""
        known = map(max, self.shared_tokens, self.cached_tokens)
        return sum(map(len, self.rows)) - sum(known)

    @cached_property
    def width(self) -> int:
        """Positions of each row of the rectangle that attention sees."""
        return int(self.positions.max())


def plan_batches(rows: Sequence[Row], limits: Limits, prefix: Row = ()) -> Iterator[Batch]:
    """Batches that together answer every row once, longest rows first.

    Rows of about the same length are neighbours, and among them those that begin alike: so the rectangle has
    little padding, and several queries' documents still meet those of their own query. Where padding is
    limited, lengths alone decide.

    Args:
        rows: the token ids of each text, none empty.
        limits: what one batch may hold.
        prefix: ids whose keys and values are cached, [P]. Rows with tiled attention do not use them, since the cached
            ones were computed without tiles.
    """
    texts_of: dict[Key, list[int]] = {}
    for position, row in enumerate(rows):
        texts_of.setdefault(_key(row), []).append(position)
    size = _length_class if limits.padding is None else _length
    order = sorted(texts_of, key=lambda key: (not limits.is_tiled(_length(key)), -size(key), key))
    cached = _key(prefix) if limits.share_prefixes else b""
    group = _Group(limits, cached)
    for key in order:
        if not group.admits(key):
            yield group.batch(texts_of)
            group = _Group(limits, cached)
        group.add(key)
    if group.keys:
        yield group.batch(texts_of)


def batch_of(row: Row) -> Batch:
    """The batch of one row alone, whatever its length; its attention is not tiled."""
    (batch,) = plan_batches([row], Limits(len(row), len(row)))
    return batch


class _Group:
    """The rows of the batch in the making, sorted as sequences of ids."""

    def __init__(self, limits: Limits, prefix: Key) -> None:
        self.limits = limits
        self.prefix = prefix
        self.keys: list[Key] = []
        self.tokens = 0
        self.stream_tokens = 0
        self.longest = 0

    def admits(self, key: Key) -> bool:
        """Whether a row may join those here."""
        if not self.keys:
            return True
        limits = self.limits
        rectangle = (len(self.keys) + 1) * limits.attended_positions(max(self.longest, _length(key)))
        return (
            self.is_tiled == limits.is_tiled(_length(key))
            and rectangle <= limits.rectangle_tokens
            and (limits.padding is None or limits.padding.allows(rectangle, rectangle - self.tokens - _length(key)))
            and self.stream_tokens + self._new_tokens(key) <= limits.stream_tokens
        )

    def add(self, key: Key) -> None:
        self.tokens += _length(key)
        self.stream_tokens += self._new_tokens(key)
        self.longest = max(self.longest, _length(key))
        self.keys.insert(bisect_left(self.keys, key), key)

    @property
    def is_tiled(self) -> bool:
        return self.limits.is_tiled(self.longest)

    def batch(self, texts_of: dict[Key, list[int]]) -> Batch:
        """The rows here as a batch.

        Args:
            texts_of: the positions of the texts of each row.
        """
        keys = self.keys
        shared = [0] * len(keys)
        if self.limits.share_prefixes:
            shared[1:] = map(common_prefix, keys, keys[1:])
        cached = [self.cached_tokens(key) for key in keys]
        texts = [texts_of[key] for key in keys]
        return Batch(
            rows=[np.frombuffer(key, ">u4").astype(np.int64) for key in keys],
            shared_tokens=shared,
            cached_tokens=cached,
            prefix_tokens=_length(self.prefix) if any(cached) else 0,
            positions=np.array([self.limits.attended_positions(_length(key)) for key in keys], np.int32),
            is_tiled=self.is_tiled,
            texts=np.concatenate([np.array(t, np.int64) for t in texts]),
            output_row=np.repeat(np.arange(len(keys)), [len(t) for t in texts]),
        )

    def cached_tokens(self, key: Key) -> int:
        """How many tokens of a row are the cached prefix's; its last is computed all the same, for its state."""
        return min(common_prefix(key, self.prefix), _length(key) - 1) if self._uses_prefix(key) else 0

    def _uses_prefix(self, key: Key) -> bool:
        return bool(self.prefix) and not self.limits.is_tiled(_length(key))

    def _new_tokens(self, key: Key) -> int:
        """Tokens of a row that no row here begins with: its neighbours in order share the most."""
        if not self.limits.share_prefixes:
            return _length(key)
        if self._uses_prefix(key) and self.prefix.startswith(key):
            return 1
        at = bisect_left(self.keys, key)
        shared = [common_prefix(key, other) for other in self.keys[max(at - 1, 0) : at + 1]]
        return _length(key) - max(*shared, self.cached_tokens(key), 0)


def _key(row: Row) -> Key:
    return np.asarray(row, ">u4").tobytes()


def _length(key: Key) -> int:
    return len(key) // ID_BYTES


def _length_class(key: Key) -> int:
    """Rows of one class differ in length by a fifth at most."""
    return round(CLASSES_PER_DOUBLING * log2(_length(key)))


def common_prefix(left: Key, right: Key) -> int:
    """How many ids two rows begin with in common."""
    size = min(len(left), len(right))
    differ = np.frombuffer(left[:size], np.uint32) != np.frombuffer(right[:size], np.uint32)
    return int(differ.argmax()) if differ.any() else size // ID_BYTES
