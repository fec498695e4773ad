"""Pooling and scoring: any options are refused or met, and any finite states give finite answers."""

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fuzzing import ANY_STRINGS, NO_STRINGS, fuzz
from quoit.engine.pooling import Dtype, Output, calibration_ranges, finish
from quoit.engine.scoring import activate, best_first, check_finite
from quoit.errors import ComputeError, InputError

DTYPES = get_args(Dtype)
HIDDEN, LEAST = 16, 4
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NUMBERS = st.floats(-1e3, 1e3, width=32)

STATES = arrays(np.float32, st.tuples(st.integers(0, 4), st.just(HIDDEN)), elements=FLOATS)
RANGES = arrays(np.float64, array_shapes(max_dims=3, max_side=HIDDEN)) | arrays(np.float32, (2, HIDDEN)) | NO_STRINGS
OUTPUTS = st.builds(
    Output,
    dim=st.none() | st.integers(-2, HIDDEN + 2) | NO_STRINGS | st.sampled_from(["8", 8.0, np.int64(8)]),
    normalize=st.booleans(),
    dtype=st.sampled_from(DTYPES) | ANY_STRINGS | NO_STRINGS,
    ranges=st.none() | RANGES,
)


@fuzz(2500)
@given(OUTPUTS, arrays(np.float32, (3, HIDDEN), elements=NUMBERS))
def test_options_are_refused_or_met(output: Any, states: np.ndarray) -> None:
    try:
        output = output.check(min_dim=LEAST, hidden_size=HIDDEN)
    except InputError as error:
        assert len(str(error)) < 1000  # noqa: PT017  a message, not the whole of what was given
        return
    dim = HIDDEN if output.dim is None else output.dim
    assert LEAST <= dim <= HIDDEN
    vectors = finish(states, output)
    packed = output.dtype in ("binary", "ubinary")
    assert vectors.shape == (3, -(-dim // 8) if packed else dim)
    assert vectors.dtype == {"binary": "int8", "ubinary": "uint8"}.get(output.dtype, output.dtype)


@fuzz(2000)
@given(STATES, st.integers(LEAST, HIDDEN))
def test_a_normalised_vector_is_of_unit_length_in_the_states_direction_or_zero(states: np.ndarray, dim: int) -> None:
    vectors = finish(states, Output(dim=dim))
    exact = states[:, :dim].astype(np.float64)
    lengths = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    expected = np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@fuzz(1000)
@given(STATES, st.sampled_from(DTYPES), st.booleans(), arrays(np.float32, (5, HIDDEN), elements=FLOATS))
def test_every_type_keeps_the_order_of_a_dimensions_values(
    states: np.ndarray, dtype: Dtype, normalize: bool, sample: np.ndarray
) -> None:
    """Conversion never overflows, whatever the range: the greater of two values is never the smaller number."""
    ranges = calibration_ranges(sample)
    try:
        Output(dtype="int8", ranges=ranges).check(min_dim=LEAST, hidden_size=HIDDEN)
    except InputError:
        ranges = np.array([[-1.0], [1.0]], np.float32).repeat(HIDDEN, axis=1)
    exact = finish(states, Output(normalize=normalize))
    if dtype == "float16" and np.abs(exact).max(initial=0) > np.finfo(np.float16).max:
        return
    vectors = finish(states, Output(normalize=normalize, dtype=dtype, ranges=ranges))
    if dtype in ("binary", "ubinary"):
        offset = 128 if dtype == "binary" else 0
        bits = np.unpackbits((vectors.astype(np.int16) + offset).astype(np.uint8), axis=1)
        assert (bits[:, :HIDDEN] == (exact > 0)).all()
        return
    for column in range(HIDDEN):
        order = np.argsort(exact[:, column], kind="stable")
        assert (np.diff(vectors[order, column].astype(np.float64)) >= 0).all()


@fuzz(700)
@given(arrays(np.float32, (3, HIDDEN), elements=NUMBERS), st.integers(0, 2), st.integers(0, HIDDEN - 1), st.booleans())
def test_a_value_that_is_not_finite_is_never_a_vector(states: np.ndarray, row: int, column: int, nan: bool) -> None:
    states[row, column] = np.nan if nan else -np.inf
    with pytest.raises(ComputeError, match=f"for row {row} of 3"):
        finish(states, Output(dim=LEAST))
    with pytest.raises(ComputeError, match=f"for pair {column} of {HIDDEN}"):
        check_finite(states[row])


@fuzz(1500)
@given(arrays(np.float32, st.integers(0, 30), elements=FLOATS))
def test_p_yes_lies_in_0_to_1_and_keeps_the_order_of_logits(logits: np.ndarray) -> None:
    probabilities = activate(logits, "sigmoid")
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    order = np.argsort(logits, kind="stable")
    assert (np.diff(probabilities[order]) >= 0).all()
    np.testing.assert_allclose(probabilities + activate(-logits, "sigmoid"), 1, atol=1e-6)
    assert (activate(logits, "logit") == logits).all()


@fuzz(1000)
@given(arrays(np.float32, st.integers(0, 30), elements=st.sampled_from([-1.0, 0.0, -0.0, 2.0]) | FLOATS), st.data())
def test_the_best_come_first_and_equals_keep_their_order(scores: np.ndarray, data: st.DataObject) -> None:
    top_k: Any = data.draw(st.none() | st.integers(-2, 40) | NO_STRINGS)
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        with pytest.raises(InputError, match="top_k"):
            best_first(scores, top_k)
        return
    expected = sorted(range(len(scores)), key=lambda index: (-float(scores[index]), index))[:top_k]
    assert best_first(scores, top_k).tolist() == expected
