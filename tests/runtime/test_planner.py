"""What a plan promises, on several hundred random sets of rows."""

import time
from dataclasses import replace
from itertools import pairwise
from math import log2

import numpy as np
import pytest

from plans import CASES, LARGEST_ID, Row, cases, positions, prefixes, rows_of, stream_size
from quoit.engine.planner import CLASSES_PER_DOUBLING, Ids, Limits, PaddingLimit, common_prefix, plan_batches


def length_class(row: Row) -> int:
    """The class of length by which rows are ordered."""
    return round(CLASSES_PER_DOUBLING * log2(len(row)))


def test_every_text_is_answered_once() -> None:
    for case in cases():
        answered = np.concatenate([batch.texts for batch in case.batches])
        assert sorted(answered.tolist()) == list(range(len(case.rows))), case.seed


def test_each_text_is_answered_by_its_own_ids() -> None:
    for case in cases():
        for batch in case.batches:
            rows = rows_of(batch)
            for text, output in zip(batch.texts, batch.output_row, strict=True):
                assert rows[output] == case.rows[text], case.seed


def test_identical_rows_are_one_row() -> None:
    for case in cases():
        computed = [row for batch in case.batches for row in rows_of(batch)]
        assert len(computed) == len(set(computed)) == len(set(case.rows)), case.seed


def test_a_shared_prefix_is_in_the_stream_once() -> None:
    for case in cases():
        if not case.limits.share_prefixes:
            continue
        for batch in case.batches:
            assert batch.stream_tokens == len(prefixes(rows_of(batch))), case.seed


def test_without_sharing_every_token_is_in_the_stream() -> None:
    for case in cases():
        if case.limits.share_prefixes:
            continue
        for batch in case.batches:
            assert not any(batch.shared_tokens), case.seed
            assert batch.stream_tokens == sum(map(len, rows_of(batch))), case.seed


def test_limits_are_kept_except_for_a_single_row() -> None:
    kept = alone = 0
    for case in cases():
        for batch in case.batches:
            within = (
                batch.stream_tokens <= case.limits.stream_tokens
                and len(batch.rows) * batch.width <= case.limits.rectangle_tokens
            )
            assert within or len(batch.rows) == 1, case.seed
            kept, alone = kept + within, alone + (not within)
    assert kept > CASES
    assert alone > CASES


def test_a_batch_ends_only_where_the_next_row_does_not_fit() -> None:
    for case in cases():
        tiled_from = case.limits.tiled_from or LARGEST_ID
        for batch, following in pairwise(case.batches):
            rows = rows_of(batch)
            candidate = min(rows_of(following), key=lambda row: (len(row) < tiled_from, -length_class(row), row))
            longest = max(map(len, rows))
            width = positions(max(longest, len(candidate)), case.limits)
            assert (
                stream_size([*rows, candidate], case.limits) > case.limits.stream_tokens
                or (len(rows) + 1) * width > case.limits.rectangle_tokens
                or (longest >= tiled_from) != (len(candidate) >= tiled_from)
            ), case.seed


def test_a_batch_never_mixes_tiled_and_other_rows() -> None:
    tiled = 0
    for case in cases():
        for batch in case.batches:
            wants_tiles = {len(row) >= (case.limits.tiled_from or LARGEST_ID) for row in rows_of(batch)}
            assert wants_tiles == {batch.is_tiled}, case.seed
            tiled += batch.is_tiled
    assert tiled > CASES


def test_longest_rows_come_first_by_classes_of_about_the_same_length() -> None:
    """No row is more than a fifth shorter than one of a later batch."""
    longer_later = 0
    for case in cases():
        lengths = [[len(row) for row in rows_of(batch)] for batch in case.batches]
        for longer, shorter in pairwise(lengths):
            assert 1.2 * min(longer) >= max(shorter), case.seed
            longer_later += min(longer) < max(shorter)
    assert longer_later, "within a class, rows that begin alike come before longer ones"


def test_padding_is_bounded_where_a_batch_is_large_enough() -> None:
    """A batch ends where one row more would be too short for it; rows come by length, those that begin alike apart."""
    lengths = np.random.default_rng(0).integers(1, 200, 400)
    rows = [(number % 3, *[number] * (length - 1)) for number, length in enumerate(lengths)]
    limits = Limits(4000, 4000, 1000, share_prefixes=False, padding=PaddingLimit(0.1, free_positions=300))
    batches = list(plan_batches(rows, limits))
    found = [[len(row) for row in rows_of(batch)] for batch in batches]
    for one, other in pairwise(found):
        assert min(one) >= max(other)
        size, more = max(one) * (len(one) + 1), sum(one) + max(other)
        assert size > 4000 or (size > 300 and size - more > 0.1 * size)
    wasted = [len(batch.rows) * batch.width - sum(each) for batch, each in zip(batches, found, strict=True)]
    assert sum(wasted) < 0.1 * sum(map(sum, found))
    unbounded = list(plan_batches(rows, replace(limits, padding=None)))
    assert len(unbounded) < len(batches)


def test_documents_of_one_query_are_computed_together() -> None:
    """Of several queries, each with documents of about the same length, hardly a batch holds two."""
    generator = np.random.default_rng(0)
    queries = [tuple(generator.integers(0, 1000, 100).tolist()) for _ in range(6)]
    rows = [(*query, *generator.integers(0, 1000, generator.integers(10, 13)).tolist()) for query in queries * 40]
    batches = list(plan_batches(rows, Limits(300, 10_000, 1000)))
    held = [{row[:100] for row in rows_of(batch)} for batch in batches]
    assert len(batches) > 2 * len(queries)
    assert sum(map(len, held)) <= len(batches) + len(queries) - 1


def test_rows_longer_than_those_before_them_stay_within_the_rectangle() -> None:
    """A shorter row may come first in a batch, and the width that counts is that of the longest."""
    rows = [(0,) * 60 + (number,) * length for number, length in ((1, 1), (2, 4), (3, 8))]
    batches = list(plan_batches(rows, Limits(1000, 130, 1000)))
    assert [(len(batch.rows), batch.width) for batch in batches] == [(2, 64), (1, 68)]


def test_attention_sees_padding_of_tiled_rows_alone() -> None:
    """At least one position, in steps of 16, up to the model's limit; a row's own length decides."""
    padded = 0
    for case in cases():
        for batch in case.batches:
            seen = [positions(len(row), case.limits) for row in rows_of(batch)]
            assert batch.positions.tolist() == seen, case.seed
            assert batch.width == max(seen), case.seed
            padded += batch.is_tiled
    assert padded > CASES


@pytest.mark.parametrize(
    ("tokens", "most", "expected"),
    [
        (384, 2048, 384),
        (385, 2048, 400),
        (399, 2048, 400),
        (400, 2048, 416),
        (2031, 2048, 2032),
        (2032, 2048, 2048),
        (2047, 2048, 2048),
        (2048, 2048, 2048),
        (2048, None, 2064),
        (390, 390, 390),
        (389, 390, 390),
    ],
)
def test_the_padding_of_a_tiled_row(tokens: int, most: int | None, expected: int) -> None:
    assert Limits(512, 2048, tiled_from=385, max_positions=most).attended_positions(tokens) == expected


def test_the_plan_does_not_depend_on_the_order_of_the_rows() -> None:
    for case in cases()[:100]:
        order = np.random.default_rng(case.seed).permutation(len(case.rows))
        shuffled = list(plan_batches([case.rows[i] for i in order], case.limits))
        assert len(shuffled) == len(case.batches), case.seed
        for batch, other in zip(case.batches, shuffled, strict=True):
            assert rows_of(batch) == rows_of(other)
            assert batch.shared_tokens == other.shared_tokens
            assert sorted(order[other.texts].tolist()) == sorted(batch.texts.tolist()), case.seed


def test_sharing_never_makes_more_batches() -> None:
    for case in cases()[:100]:
        shared, unshared = (
            list(plan_batches(case.rows, replace(case.limits, share_prefixes=share))) for share in (True, False)
        )
        assert len(shared) <= len(unshared), case.seed


def test_large_ids_are_sorted_as_numbers() -> None:
    """Byte order matters: 255 is below 256, and 2**31 - 1 below 2**31, as numbers and not as bytes."""
    ids = [0, 1, 255, 256, 257, 65_535, 65_536, 2**24 - 1, 2**24, LARGEST_ID - 1, LARGEST_ID]
    rows = [(first, second) for first in ids for second in ids]
    (batch,) = plan_batches(rows[::-1], Limits(10_000, 10_000, 1000))
    assert rows_of(batch) == rows
    assert batch.stream_tokens == len(ids) + len(rows)
    for case in cases():
        for planned in case.batches:
            assert rows_of(planned) == sorted(rows_of(planned)), case.seed


def test_no_rows_are_no_batches() -> None:
    assert list(plan_batches([], Limits(1, 1, 1))) == []


def test_rows_are_tiled_only_where_limits_say_from_when() -> None:
    for tiled_from, expected in ((None, False), (9, False), (8, True)):
        (batch,) = plan_batches([range(8)], Limits(8, 32, tiled_from))
        assert batch.is_tiled == expected


@pytest.mark.parametrize(("tiled_from", "most", "expected"), [(None, 2048, 2048), (385, 2048, 384), (385, 100, 100)])
def test_the_longest_row_without_tiles(tiled_from: int | None, most: int, expected: int) -> None:
    assert Limits(512, 2048, tiled_from).untiled_tokens(most) == expected


def test_common_prefix_counts_ids_not_bytes() -> None:
    def key(*ids: int) -> bytes:
        return np.array(ids, ">u4").tobytes()

    assert common_prefix(key(1, 2, 3), key(1, 2, 4)) == 2
    assert common_prefix(key(1), key(257)) == 0, "the low bytes agree, the ids do not"
    assert common_prefix(key(256), key(257)) == 0, "the high bytes agree, the ids do not"
    assert common_prefix(key(7, 8), key(7, 8, 9)) == 2
    assert common_prefix(key(), key(7)) == 0


@pytest.mark.parametrize(
    "limits",
    [Limits(512, 2048, 1025), Limits(32_768, 65_536, 1), Limits(1 << 20, 1 << 22, 1025)],
    ids=["cpu", "cuda", "one batch"],
)
def test_many_short_rows_are_planned_in_bounded_time(limits: Limits) -> None:
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 151_669, size).tolist() for size in generator.integers(1, 24, 20_000)]
    start = time.perf_counter()
    answered: list[Ids] = [batch.texts for batch in plan_batches(rows, limits)]
    seconds = time.perf_counter() - start
    assert sum(map(len, answered)) == len(rows)
    assert seconds < 10
