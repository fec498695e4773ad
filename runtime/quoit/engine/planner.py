"""Token rows to batches for a packed graph: what is computed together, and the way back.

A pure function of token ids and limits. The model is causal, so a token's state depends only on the tokens
before it, and every distinct token prefix of a batch needs computing once: rows are sorted as sequences of
ids, each is compared with its neighbour, and only its new tail joins the stream. Texts with the same ids are
one row. A prefix whose keys and values were kept from an earlier run needs no computing at all. This module does not
know what the ids mean.

Lengths are in tokens. P tokens of a kept prefix, T stream rows, R sequences, S positions of the longest of them, N = R
distinct texts.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
TILED_STEP = 16
"""Tiled attention sees a multiple of this many positions of a row; see `attended_positions`."""


@dataclass(frozen=True)
class Limits:
    """What one batch may hold; a single row longer than a limit is a batch of its own.

    Attributes:
        stream_tokens: distinct tokens that go through the linear layers.
        rectangle_tokens: R * S, the padded positions that attention sees.
        tiled_from: rows of at least this many tokens use tiled attention. A row's own length decides, so
            that its vector cannot depend on its batch.
        share_prefixes: whether rows share the tokens they begin with.
        most_padding: the share of a rectangle that may be padding, unless it has at most `padded_tokens` positions.
        padded_tokens: see there.
        max_positions: positions that the graph has RoPE tables for, the model's `max_tokens`; None for no limit.
    """

    stream_tokens: int
    rectangle_tokens: int
    tiled_from: int
    share_prefixes: bool = True
    most_padding: float = 1.0
    padded_tokens: int = 0
    max_positions: int | None = None

    def is_tiled(self, tokens: int) -> bool:
        """Whether a row of so many tokens has tiled attention."""
        return tokens >= self.tiled_from

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
    """One run of the graph: its inputs, and which texts its outputs belong to.

    Attributes:
        input_ids: [T] int64, the stream.
        prefix_tokens: P, or 0 where no row begins with the kept prefix.
        attention_index: [R, S] int64, the token behind each position: below P one of the kept prefix, from P on one of
            the stream; padding repeats the row's last.
        row_lengths: [R] int32, length minus one.
        attended_lengths: [R] int32, the positions that attention sees of each row, minus one; with tiled attention,
            padding is among them.
        stream_slot: [T] int64, each stream row's place in the flattened [R * S] attention output.
        last_row: [R] int64, the stream row of each sequence's last token, which is always computed.
        tiled_attention: whether attention runs in tiles.
        texts: [n] int64, the positions of the texts answered here.
        output_row: [n] int64, the output row in 0..R-1 that answers each of them.
    """

    input_ids: Ids
    prefix_tokens: int
    attention_index: Ids
    row_lengths: NDArray[np.int32]
    attended_lengths: NDArray[np.int32]
    stream_slot: Ids
    last_row: Ids
    tiled_attention: bool
    texts: Ids
    output_row: Ids


def plan_batches(rows: Sequence[Row], limits: Limits, prefix: Row = ()) -> Iterator[Batch]:
    """Batches that together answer every row once, longest rows first.

    Rows of about the same length are neighbours, and among them those that begin alike: so the rectangle has
    little padding, and several queries' documents still meet those of their own query. Where padding is
    bounded, lengths alone decide.

    Args:
        rows: the token ids of each text, none empty.
        limits: what one batch may hold.
        prefix: ids whose keys and values were kept, [P]. Rows with tiled attention do not use them, since what was kept
            was not computed so.
    """
    texts_of: dict[Key, list[int]] = {}
    for position, row in enumerate(rows):
        texts_of.setdefault(_key(row), []).append(position)
    size = _length_class if limits.most_padding == 1 else _length
    order = sorted(texts_of, key=lambda key: (not limits.is_tiled(_length(key)), -size(key), key))
    kept = _key(prefix) if limits.share_prefixes else b""
    group = _Group(limits, kept)
    for key in order:
        if not group.admits(key):
            yield _pack(group, texts_of)
            group = _Group(limits, kept)
        group.add(key)
    if group.keys:
        yield _pack(group, texts_of)


def batch_of(row: Row) -> Batch:
    """The batch of one row alone, whatever its length; its attention is not tiled."""
    (batch,) = plan_batches([row], Limits(len(row), len(row), tiled_from=len(row) + 1))
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
            and self._may_pad(rectangle, rectangle - self.tokens - _length(key))
            and self.stream_tokens + self._new_tokens(key) <= limits.stream_tokens
        )

    def _may_pad(self, rectangle: int, padding: int) -> bool:
        limits = self.limits
        return rectangle <= limits.padded_tokens or padding <= limits.most_padding * rectangle

    def add(self, key: Key) -> None:
        self.tokens += _length(key)
        self.stream_tokens += self._new_tokens(key)
        self.longest = max(self.longest, _length(key))
        self.keys.insert(bisect_left(self.keys, key), key)

    @property
    def is_tiled(self) -> bool:
        return self.limits.is_tiled(self.longest)

    @property
    def width(self) -> int:
        """S, the positions of each row of the rectangle."""
        return self.limits.attended_positions(self.longest)

    def kept_tokens(self, key: Key) -> int:
        """How many tokens of a row are the kept prefix's; its last is computed all the same, for its state."""
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
        return _length(key) - max(*shared, self.kept_tokens(key), 0)


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


def _pack(group: _Group, texts_of: dict[Key, list[int]]) -> Batch:
    rows = [np.frombuffer(key, ">u4").astype(np.int64) for key in group.keys]
    kept = [group.kept_tokens(key) for key in group.keys]
    prefix_tokens = _length(group.prefix) if any(kept) else 0
    index = np.zeros((len(rows), group.width), np.int64)
    ids: list[Ids] = []
    slots: list[Ids] = []
    start = prefix_tokens
    for number, row in enumerate(rows):
        shared = 0
        if number and group.limits.share_prefixes:
            shared = common_prefix(group.keys[number - 1], group.keys[number])
            index[number, :shared] = index[number - 1, :shared]
        if kept[number] > shared:
            shared = kept[number]
            index[number, :shared] = np.arange(shared)
        tail = len(row) - shared
        index[number, shared : len(row)] = np.arange(start, start + tail)
        index[number, len(row) :] = start + tail - 1
        slots.append(np.arange(shared, len(row)) + number * group.width)
        ids.append(row[shared:])
        start += tail
    texts = [texts_of[key] for key in group.keys]
    return Batch(
        input_ids=np.concatenate(ids),
        prefix_tokens=prefix_tokens,
        attention_index=index,
        row_lengths=np.array([len(row) - 1 for row in rows], np.int32),
        attended_lengths=np.array([group.limits.attended_positions(len(row)) - 1 for row in rows], np.int32),
        stream_slot=np.concatenate(slots),
        last_row=index[:, -1] - prefix_tokens,
        tiled_attention=group.is_tiled,
        texts=np.concatenate([np.array(t, np.int64) for t in texts]),
        output_row=np.repeat(np.arange(len(rows)), [len(t) for t in texts]),
    )
