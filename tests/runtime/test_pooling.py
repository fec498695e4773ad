"""States to vectors, with the meanings of sentence-transformers' `quantize_embeddings`."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quoit import ComputeError, InputError, calibration_ranges
from quoit.engine.pooling import Dtype, Output, finish, normalize

DIM = 40
States = NDArray[np.float32]


@pytest.fixture
def states() -> States:
    """States as a model gives them: not of unit length, values of every size."""
    generator = np.random.default_rng(5)
    return (generator.standard_normal((64, DIM)) * generator.lognormal(size=(64, 1))).astype(np.float32)


def reference(embeddings: States, dtype: Dtype, ranges: Any) -> Any:
    """`sentence_transformers.util.quantize_embeddings`, written out."""
    if dtype == "ubinary":
        return np.packbits(embeddings > 0, axis=1)
    if dtype == "binary":
        return (np.packbits(embeddings > 0, axis=1) - 128).astype("int8")
    start = ranges[0]
    step = (ranges[1] - ranges[0]) / 255
    if dtype == "uint8":
        return ((embeddings - start) / step).astype(np.uint8)
    return ((embeddings - start) / step - 128).astype(np.int8)


@pytest.mark.parametrize("dim", [None, 32, 33])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
def test_quantized_vectors_mean_what_sentence_transformers_means(states: States, dtype: Dtype, dim: int | None) -> None:
    vectors = finish(states, Output(dim=dim))
    ranges = calibration_ranges(vectors) if dtype in ("int8", "uint8") else None
    found = finish(states, Output(dim=dim, dtype=dtype, ranges=ranges))
    expected = reference(vectors, dtype, ranges)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_eight_bits_use_the_whole_range(states: States) -> None:
    ranges = calibration_ranges(finish(states, Output()))
    for dtype, least, most in (("int8", -128, 127), ("uint8", 0, 255)):
        found = finish(states, Output(dtype=dtype, ranges=ranges))  # type: ignore[arg-type]
        assert (found.min(axis=0) == least).all()
        assert (found.max(axis=0) >= most - 1).all(), "the greatest may round to just below the last step"


@pytest.mark.parametrize(("dtype", "least", "most"), [("int8", -128, 127), ("uint8", 0, 255)])
def test_values_outside_the_ranges_are_clipped(dtype: Dtype, least: int, most: int) -> None:
    values = np.array([[-9.0, 9.0, -1.0, 1.01, 1e30, -1e30]], np.float32)
    ranges = np.array([[-1.0] * 6, [1.0] * 6])
    found = finish(values, Output(normalize=False, dtype=dtype, ranges=ranges))
    assert found.tolist() == [[least, most, least, most, most, least]]


def test_bits_are_set_above_zero_only() -> None:
    values = np.array([[1.0, 0.0, -0.0, -1.0, 1e-30, -1e-30, 2.0, 3.0, 4.0]], np.float32)
    found = finish(values, Output(normalize=False, dtype="ubinary"))
    assert found.tolist() == [[0b10001011, 0b10000000]]
    signed = finish(values, Output(normalize=False, dtype="binary"))
    assert signed.tolist() == [[0b10001011 - 128, 0]]


def test_calibration_ranges_are_least_and_greatest_of_each_dimension() -> None:
    sample = np.array([[1.0, -2.0], [3.0, 5.0], [-7.0, 0.5]])
    ranges = calibration_ranges(sample)
    assert ranges.dtype == np.float32
    assert ranges.tolist() == [[-7.0, -2.0], [3.0, 5.0]]


def test_truncation_comes_before_normalisation(states: States) -> None:
    found = finish(states, Output(dim=10))
    expected = states[:, :10] / np.linalg.norm(states[:, :10], axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_array_equal(finish(states, Output(dim=10, normalize=False)), states[:, :10])


def test_rows_have_unit_length_whatever_the_states_length(states: States) -> None:
    for scale in (1e-6, 1.0, 1e6):
        lengths = np.linalg.norm(normalize(states * np.float32(scale)), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_a_zero_row_stays_zero() -> None:
    states = np.zeros((2, DIM), np.float32)
    states[1, 3] = -5
    found = finish(states, Output())
    assert (found[0] == 0).all()
    assert found[1, 3] == -1
    assert (finish(states, Output(dtype="ubinary"))[0] == 0).all()


def test_float16_is_the_rounded_float32(states: States) -> None:
    found = finish(states, Output(dim=32, dtype="float16"))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, finish(states, Output(dim=32)).astype(np.float16))


@pytest.mark.parametrize("dim", [None, 8])
def test_float32_rows_lie_one_after_another(states: States, dim: int | None) -> None:
    for normalized in (True, False):
        found = finish(states, Output(dim=dim, normalize=normalized))
        assert found.dtype == np.float32
        assert found.flags.c_contiguous


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_its_row(states: States, value: float) -> None:
    states[7, DIM - 1] = value
    states[9, 0] = value
    with pytest.raises(ComputeError, match=r"NaN or infinity for row 7 of 64; use another precision"):
        finish(states, Output())
    with pytest.raises(ComputeError, match="row 7"):
        finish(states, Output(dim=8))


@pytest.mark.parametrize("dtype", ["float32", "float16", "binary", "ubinary"])
def test_no_states_give_no_vectors(dtype: Dtype) -> None:
    width = 5 if "binary" in dtype else DIM
    assert finish(np.empty((0, DIM), np.float32), Output(dtype=dtype)).shape == (0, width)


@pytest.mark.parametrize(
    "ranges",
    [
        np.zeros((2, DIM)),
        np.zeros((DIM, 2)),
        np.ones(DIM),
        np.stack([np.ones(DIM), np.zeros(DIM)]),
        np.stack([np.zeros(DIM), np.full(DIM, np.inf)]),
        np.stack([np.zeros(DIM), np.full(DIM, np.nan)]),
        np.stack([np.ones(DIM), np.full(DIM, 1 + 1e-12)]),
    ],
    ids=["flat", "transposed", "one row", "falling", "infinite", "nan", "flat in float32"],
)
def test_ranges_that_cannot_be_used_are_refused(ranges: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match=r"ranges of shape .* must be finite, \[2, 40\], and rise"):
        Output(dtype="int8", ranges=ranges).check(min_dim=8, hidden_size=DIM)


def test_what_can_be_given_is_accepted() -> None:
    Output().check(min_dim=8, hidden_size=DIM)
    Output(dim=8, dtype="binary").check(min_dim=8, hidden_size=DIM)
    Output(dim=8, dtype="uint8", ranges=np.stack([np.zeros(8), np.ones(8)])).check(min_dim=8, hidden_size=DIM)
    Output(dim=DIM).check(min_dim=1000, hidden_size=DIM)
