"""Plan which token rows run together in a batch.

The plan is a pure function of token ids and limits. The model is causal, so a token's state depends only on the tokens
before it, and every distinct token prefix of a batch is computed once. To find shared prefixes, rows are sorted as
sequences of ids, and each row is compared with its neighbour. Texts with the same ids are one row. A prefix whose keys
and values are cached is not computed at all. This module does not know how a batch becomes a graph's inputs
(`quoit.engine.layouts`).

Lengths are in tokens. P is the number of tokens of a cached prefix, R the number of rows of a batch.
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
    """Limit of the padding in a batch's rectangle.

    Attributes:
        max_share: maximum share of padding.
        free_positions: number of positions up to which a rectangle may have any padding.
    """

    max_share: float
    free_positions: int

    def allows(self, rectangle: int, padding: int) -> bool:
        """Return whether a rectangle of `rectangle` positions may have `padding` positions of padding."""
        return rectangle <= self.free_positions or padding <= self.max_share * rectangle


@dataclass(frozen=True)
class Limits:
    """Limits of one batch; a single row longer than a limit is a batch of its own.

    Attributes:
        stream_tokens: maximum number of distinct tokens that go through the linear layers.
        rectangle_tokens: maximum number of positions that attention sees, padding included.
        tiled_from: minimum number of tokens of a row with tiled attention; None if no row has it. A row's own length
            decides, so that its vector cannot depend on its batch.
        share_prefixes: True if rows share the tokens that they begin with.
        padding: limit of padding in the rectangle; None for no limit.
        max_positions: number of positions in the graph's RoPE tables, the model's `max_tokens`; None for no limit.
    """

    stream_tokens: int
    rectangle_tokens: int
    tiled_from: int | None = None
    share_prefixes: bool = True
    padding: PaddingLimit | None = None
    max_positions: int | None = None

    def is_tiled(self, tokens: int) -> bool:
        """Return whether a row of this length has tiled attention."""
        return self.tiled_from is not None and tokens >= self.tiled_from

    def untiled_tokens(self, max_tokens: int) -> int:
        """Return the length of the longest row without tiled attention, at most `max_tokens`."""
        return max_tokens if self.tiled_from is None else min(self.tiled_from - 1, max_tokens)

    def attended_positions(self, tokens: int) -> int:
        """Return the number of positions that attention sees for a row: its tokens, plus padding if attention is tiled.

        Tiled attention must give a token the same bits in a rectangle of any width. Two of its steps depend on more
        than the token (`MlasFlashAttentionGQA` and what it calls in onnxruntime 1.32):

        - Queries are taken in tiles. If a tile has one row, `MlasSgemmOperation` multiplies with another kernel, which
          rounds differently. So the last position of a row is always padding, and no token is alone in its tile. This
          holds for every tile size; the CPU's caches decide the size.
        - `MlasComputeSumExpF32Kernel` without AVX adds the values beyond a multiple of four after all others. So the
          number of a row's positions is a multiple of TILED_STEP.

        A row within TILED_STEP tokens of `max_positions` has no room for both. It has `max_positions` positions in
        every batch, since no rectangle is wider.
        """
        if not self.is_tiled(tokens):
            return tokens
        padded = (tokens // TILED_STEP + 1) * TILED_STEP
        return padded if self.max_positions is None else max(min(padded, self.max_positions), tokens)


@dataclass(frozen=True)
class Batch:
    """Rows that run together, and the texts that they answer.

    Attributes:
        rows: distinct rows of int64 ids, [R], sorted as sequences of ids.
        shared_tokens: number of leading tokens that each row shares with the row before it, [R]; they are computed
            once. 0 if the rows share nothing.
        cached_tokens: number of leading tokens of each row that belong to the cached prefix, [R]. The last token of a
            row is always computed, since its state is needed.
        prefix_tokens: P, or 0 if no row begins with the cached prefix.
        positions: number of positions that attention sees of each row, [R] int32; tiled attention includes padding.
        is_tiled: True if attention runs in tiles.
        texts: positions of the texts that this batch answers, [n] int64.
        output_row: the row in 0..R-1 that answers each of these texts, [n] int64.
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
        """Return the number of distinct tokens to compute."""
        known = map(max, self.shared_tokens, self.cached_tokens)
        return sum(map(len, self.rows)) - sum(known)

    @cached_property
    def width(self) -> int:
        """Return the number of positions in each row of the rectangle that attention sees."""
        return int(self.positions.max())


def plan_batches(rows: Sequence[Row], limits: Limits, prefix: Row = ()) -> Iterator[Batch]:
    """Yield batches that together answer every row once, longest rows first.

    Rows of about the same length are neighbours, so the rectangle has little padding. Among them, rows that begin
    alike are neighbours, so the documents of one query still meet in a batch. If padding is limited, rows are sorted
    by exact length first.

    Args:
        rows: the token ids of each text, none empty.
        limits: the limits of one batch.
        prefix: ids whose keys and values are cached, [P]. Rows with tiled attention do not use them, since the cached
            values were computed without tiles.
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
    """Return the batch of one single row of any length; its attention is not tiled."""
    (batch,) = plan_batches([row], Limits(len(row), len(row)))
    return batch


class _Group:
    """The rows of a batch that is being built, sorted as sequences of ids."""

    def __init__(self, limits: Limits, prefix: Key) -> None:
        self.limits = limits
        self.prefix = prefix
        self.keys: list[Key] = []
        self.tokens = 0
        self.stream_tokens = 0
        self.longest = 0

    def admits(self, key: Key) -> bool:
        """Return whether a row may join this group."""
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
        """Return the rows of this group as a batch.

        Args:
            texts_of: positions of the texts of each row.
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
        """Return how many tokens of a row the cached prefix covers, without its last one, whose state is needed."""
        return min(common_prefix(key, self.prefix), _length(key) - 1) if self._uses_prefix(key) else 0

    def _uses_prefix(self, key: Key) -> bool:
        return bool(self.prefix) and not self.limits.is_tiled(_length(key))

    def _new_tokens(self, key: Key) -> int:
        """Return how many tokens a row would add; its neighbours in sorted order share the most tokens with it."""
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
    """Return the length class of a row; rows of one class differ in length by at most a fifth."""
    return round(CLASSES_PER_DOUBLING * log2(_length(key)))


def common_prefix(left: Key, right: Key) -> int:
    """Return the number of leading ids that two rows have in common."""
    size = min(len(left), len(right))
    differ = np.frombuffer(left[:size], np.uint32) != np.frombuffer(right[:size], np.uint32)
    return int(differ.argmax()) if differ.any() else size // ID_BYTES
