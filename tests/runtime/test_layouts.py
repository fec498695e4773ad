"""What a graph is given, on several hundred random plans, for each layout."""

import numpy as np
import pytest

from plans import CASES, Row, cases, prefixes, rows_of
from quoit import ArtifactError
from quoit.engine.layouts import find_layout, packed, padded
from quoit.engine.planner import Batch, Ids, Limits, batch_of, plan_batches
from quoit.ort.cuda_graphs import LENGTHS
from quoit.ort.graph_inputs import Inputs

SIZES = {"R": "row_lengths", "N": "last_row", "T": "input_ids"}


def check_contract(name: str, batch: Batch) -> None:
    """The inputs of a batch are those of the contract: names in order, types and shapes."""
    layout = find_layout(name)
    inputs = layout.make_inputs(batch)
    assert list(inputs) == [one.name for one in layout.contract.required]
    axes: dict[str, int] = {}
    for one in layout.contract.required:
        array = inputs[one.name]
        assert array.dtype == one.dtype, one.name
        assert array.ndim == len(one.shape), one.name
        for axis, size in zip(one.shape, array.shape, strict=True):
            assert (axis if isinstance(axis, int) else axes.setdefault(axis, size)) == size, one.name
    assert axes["R"] == axes["N"] == len(batch.rows)


@pytest.mark.parametrize("name", ["packed", "padded"])
def test_inputs_keep_the_contract(name: str) -> None:
    for case in cases()[:80]:
        for batch in case.batches:
            check_contract(name, batch)


def test_an_unknown_layout_is_refused() -> None:
    for name in ("ragged", "", "__init__", "../packed", "packed.REQUIRED"):
        with pytest.raises(ArtifactError, match="is unknown; this version has packed, padded: upgrade quoit, or"):
            find_layout(name)


def read_back(inputs: Inputs, batch: Batch) -> list[Row]:
    """The ids of each row, through attention_index."""
    return [
        tuple(inputs["input_ids"][index[: len(row)]].tolist())
        for index, row in zip(inputs["attention_index"], batch.rows, strict=True)
    ]


def test_packed_rows_are_read_back_through_attention_index() -> None:
    for case in cases():
        for batch in case.batches:
            assert read_back(packed.make_inputs(batch), batch) == rows_of(batch), case.seed


def test_packed_has_a_shared_prefix_in_the_stream_once() -> None:
    shared = 0
    for case in cases():
        for batch in case.batches:
            inputs, rows = packed.make_inputs(batch), rows_of(batch)
            assert len(inputs["input_ids"]) == batch.stream_tokens
            places: dict[tuple[Row, int], int] = {}
            for number, (row, index) in enumerate(zip(rows, inputs["attention_index"].tolist(), strict=True)):
                for end in range(1, len(row) + 1):
                    key = (row[:end], 0 if case.limits.share_prefixes else number)
                    assert places.setdefault(key, index[end - 1]) == index[end - 1], case.seed
            assert sorted(places.values()) == list(range(batch.stream_tokens)), case.seed
            shared += batch.stream_tokens == len(prefixes(rows)) < sum(map(len, rows))
    assert shared > CASES // 2


def test_packed_slots_invert_attention_index() -> None:
    for case in cases():
        for batch in case.batches:
            inputs = packed.make_inputs(batch)
            slots, index = inputs["stream_slot"], inputs["attention_index"]
            assert index.ravel()[slots].tolist() == list(range(batch.stream_tokens)), case.seed
            row, position = np.divmod(slots, index.shape[1])
            lengths = np.array([len(one) for one in batch.rows])
            assert (position < lengths[row]).all(), "a slot must be a token, not padding"


def test_packed_padding_repeats_the_last_token_which_answers() -> None:
    for case in cases():
        for batch in case.batches:
            inputs = packed.make_inputs(batch)
            for last, row, index in zip(inputs["last_row"], batch.rows, inputs["attention_index"], strict=True):
                assert (index[len(row) - 1 :] == last).all(), case.seed


def test_packed_attention_sees_padding_of_tiled_rows_alone() -> None:
    for case in cases():
        for batch in case.batches:
            inputs = packed.make_inputs(batch)
            assert (inputs["row_lengths"] + 1).tolist() == batch.positions.tolist()
            assert inputs["attention_index"].shape[1] == batch.positions.max()
            assert inputs["tiled_attention"] == batch.is_tiled


def test_a_packed_row_behind_a_cached_prefix_has_its_own_tokens_alone() -> None:
    rows = [[1, 2, 3, 4], [1, 2, 9], [1, 2], [7, 8]]
    (batch,) = plan_batches(rows, Limits(100, 100), [1, 2, 3])
    inputs = packed.make_inputs(batch)
    assert rows_of(batch) == [(1, 2), (1, 2, 3, 4), (1, 2, 9), (7, 8)]
    assert inputs["input_ids"].tolist() == [2, 4, 9, 7, 8]
    assert inputs["attention_index"].tolist() == [[0, 3, 3, 3], [0, 1, 2, 4], [0, 1, 5, 5], [6, 7, 7, 7]]
    assert inputs["last_row"].tolist() == [0, 1, 2, 4]


def test_a_prefix_is_asked_for_whole_and_copied() -> None:
    inputs = packed.request_prefix(batch_of([5, 6, 7]))
    assert inputs["kept_row"].tolist() == [0, 1, 2]
    given = np.ones((3, 4), np.float32)
    past = packed.past({"present.0.key": given[:, :2]})
    assert list(past) == ["past_key_values.0.key"]
    assert past["past_key_values.0.key"].flags.owndata


def test_padded_rows_stand_side_by_side_whatever_they_share() -> None:
    for case in cases()[:100]:
        for batch in case.batches:
            inputs = padded.make_inputs(batch)
            rows, longest, rest = inputs["rectangle"].tolist()
            assert (rows, longest, rest) == (len(batch.rows), max(map(len, batch.rows)), -1)
            assert int(inputs["longest_row"]) == longest
            table: Ids = inputs["input_ids"].reshape(rows, longest)
            for row, ids, length, last in zip(
                batch.rows, table, inputs["row_lengths"] + 1, inputs["last_row"], strict=True
            ):
                assert length == len(row)
                assert (ids[:length] == row).all()
                assert (ids[length:] == row[-1]).all()
                assert inputs["input_ids"][last] == row[-1]


@pytest.mark.parametrize("length", [1, 15, 16, 17, 256])
def test_a_single_short_padded_row_gets_a_fixed_shape(length: int) -> None:
    ids = np.arange(length) + 3
    inputs = padded.fixed_shape(padded.make_inputs(batch_of(ids)), LENGTHS)
    assert inputs is not None
    size = next(one for one in LENGTHS if one >= length)
    assert inputs["input_ids"].tolist() == [*ids, *[ids[-1]] * (size - length)]
    assert inputs["last_row"].tolist() == [length - 1]
    whole = padded.make_inputs(batch_of(np.zeros(size, np.int64)))
    for name in ("row_lengths", "longest_row", "rectangle"):
        np.testing.assert_array_equal(inputs[name], whole[name])
        assert inputs[name].dtype == whole[name].dtype


def test_other_batches_get_no_fixed_shape() -> None:
    long = padded.make_inputs(batch_of(range(LENGTHS[-1] + 1)))
    (two,) = plan_batches([[1, 2], [3]], Limits(10, 10))
    assert padded.fixed_shape(long, LENGTHS) is None
    assert padded.fixed_shape(padded.make_inputs(two), LENGTHS) is None


def test_a_lone_token_and_a_lone_row_are_repeated() -> None:
    """The rest of the inputs stay, and so does what has company."""
    lone, alone, many = (packed.make_inputs(plan) for plan in (batch_of([7]), batch_of([7, 8]), _two_rows()))
    for inputs, repeated in ((lone, {"input_ids", "stream_slot", "last_row"}), (alone, {"last_row"}), (many, set())):
        found = packed.no_lone_row(inputs)
        assert found.keys() == inputs.keys()
        for name, array in inputs.items():
            expected = np.repeat(array, 2) if name in repeated else array
            np.testing.assert_array_equal(found[name], expected)


def _two_rows() -> Batch:
    (batch,) = plan_batches([[1, 2], [3, 4, 5]], Limits(8, 8))
    return batch
