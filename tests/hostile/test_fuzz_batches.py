"""What a plan promises, on any rows and any limits."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import fuzz
from quoit.engine.layouts import packed
from quoit.engine.planner import Batch, Limits, PaddingLimit, plan_batches

Row = tuple[int, ...]
LARGEST_ID = 2**32 - 1

IDS = st.sampled_from([0, 1, 2]) | st.integers(0, LARGEST_ID)
LIMITS = st.builds(
    Limits,
    stream_tokens=st.integers(1, 40) | st.just(10_000),
    rectangle_tokens=st.integers(1, 80) | st.just(100_000),
    tiled_from=st.none() | st.integers(1, 12),
    share_prefixes=st.booleans(),
    padding=st.none() | st.builds(PaddingLimit, st.sampled_from([1.0, 0.5, 0.1, 0.0]), st.integers(0, 40)),
)


@st.composite
def row_sets(draw: st.DrawFn) -> list[Row]:
    """Rows, among them copies, beginnings and continuations of others."""
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, 12))):
        row = tuple(draw(st.lists(IDS, min_size=1, max_size=10)))
        again: bool = draw(st.booleans())
        if rows and again:
            other = draw(st.sampled_from(rows))
            kept = other[: draw(st.integers(1, len(other)))]
            row = kept if draw(st.booleans()) else kept + row
        rows.append(row)
    return rows


@st.composite
def behind_prefixes(draw: st.DrawFn) -> tuple[list[Row], Row]:
    """Rows, and a kept prefix: none, any ids, or the beginning of a row with or without more."""
    rows: list[Row] = draw(row_sets())
    prefix = tuple(draw(st.lists(IDS, max_size=4)))
    begins_a_row: bool = draw(st.booleans())
    if rows and begins_a_row:
        row = draw(st.sampled_from(rows))
        prefix = row[: draw(st.integers(1, len(row)))] + prefix
    return rows, prefix


def sequences(batch: Batch, prefix: Row) -> list[Row]:
    """The ids of each sequence, read back through attention_index."""
    assert batch.prefix_tokens in (0, len(prefix))
    inputs = packed.make_inputs(batch)
    ids = [*prefix[: batch.prefix_tokens], *inputs["input_ids"].tolist()]
    rows = zip(inputs["attention_index"], batch.rows, strict=True)
    return [tuple(ids[at] for at in index[: len(row)]) for index, row in rows]


def answers(batches: list[Batch], prefix: Row) -> Iterator[tuple[int, Row]]:
    """Each text answered, with the ids that answer it."""
    for batch in batches:
        found = sequences(batch, prefix)
        yield from ((text, found[output]) for text, output in zip(batch.texts, batch.output_row, strict=True))


@fuzz(2500)
@given(behind_prefixes(), LIMITS)
def test_every_row_is_answered_once_by_its_own_ids_with_and_without_sharing(
    case: tuple[list[Row], Row], limits: Limits
) -> None:
    rows, prefix = case
    for share in (True, False):
        found = list(answers(list(plan_batches(rows, replace(limits, share_prefixes=share), prefix)), prefix))
        assert sorted(text for text, _ in found) == list(range(len(rows)))
        assert all(rows[text] == ids for text, ids in found)


@fuzz(1500)
@given(behind_prefixes(), LIMITS)
def test_limits_hold_but_for_single_rows_and_a_row_is_tiled_by_its_own_length(
    case: tuple[list[Row], Row], limits: Limits
) -> None:
    """The stream holds what no row and no kept prefix has brought, and the last token of a row that is all kept."""
    rows, prefix = case
    for batch in plan_batches(rows, limits, prefix):
        found = sequences(batch, prefix)
        if len(found) > 1:
            size = len(batch.rows) * batch.width
            assert size <= limits.rectangle_tokens
            assert batch.stream_tokens <= limits.stream_tokens
            padding, bound = size - sum(map(len, found)), limits.padding
            assert bound is None or size <= bound.free_positions or padding <= bound.max_share * size
        tiled_from = 1 << 62 if limits.tiled_from is None else limits.tiled_from
        assert all((len(row) >= tiled_from) == batch.is_tiled for row in found)
        distinct = {row[:end] for row in found for end in range(1, len(row) + 1)}
        if not batch.is_tiled:
            distinct = (distinct - {prefix[:end] for end in range(1, len(prefix) + 1)}) | {*found}
        assert batch.stream_tokens == (len(distinct) if limits.share_prefixes else sum(map(len, found)))
        assert len(found) == len(set(found))
        if not limits.share_prefixes or batch.is_tiled:
            assert batch.prefix_tokens == 0


@fuzz(1500)
@given(behind_prefixes(), LIMITS)
def test_every_stream_row_has_one_place_with_its_own_past(case: tuple[list[Row], Row], limits: Limits) -> None:
    """A stream row stands where `stream_slot` says, at its own position, behind the tokens it follows in every row."""
    rows, prefix = case
    for batch in plan_batches(rows, limits, prefix):
        inputs = packed.make_inputs(batch)
        index_of, slots = inputs["attention_index"], inputs["stream_slot"]
        longest = index_of.shape[1]
        lengths = np.array([len(row) for row in batch.rows])
        stream = batch.prefix_tokens + np.arange(batch.stream_tokens)
        attended = inputs["row_lengths"] + 1
        assert longest == attended.max()
        for seen, tokens in zip(attended.tolist(), lengths.tolist(), strict=True):
            assert seen == tokens if not batch.is_tiled else (seen > tokens and seen % 16 == 0 and seen <= tokens + 16)
        assert len(set(slots.tolist())) == len(slots) == len(inputs["input_ids"]) == batch.stream_tokens
        sequence, position = np.divmod(slots, longest)
        assert (position < lengths[sequence]).all()
        assert (index_of[sequence, position] == stream).all()
        places = [*range(batch.prefix_tokens), *position.tolist()]
        ids = [*prefix[: batch.prefix_tokens], *inputs["input_ids"].tolist()]
        past: dict[int, Row] = {}
        for number, (index, length) in enumerate(zip(index_of, lengths, strict=True)):
            assert batch.prefix_tokens + inputs["last_row"][number] == index[length - 1]
            assert (index[length:] == index[length - 1]).all()
            for end, row in enumerate(index[:length].tolist()):
                assert places[row] == end
                before = tuple(ids[at] for at in index[: end + 1])
                assert past.setdefault(row, before) == before
