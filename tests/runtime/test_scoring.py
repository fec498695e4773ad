"""From logits to probabilities and their order."""

import math
from typing import Any

import numpy as np
import pytest

from quoit import ComputeError, InputError
from quoit.engine.scoring import activate, best_first, check_activation, check_finite


def logits(*values: float) -> Any:
    return np.array(values, np.float32)


def test_the_sigmoid_of_extremes_is_0_and_1_without_a_warning() -> None:
    """Warnings are errors here, so an overflow in between would fail."""
    found = activate(logits(-1e4, -200, 0, 200, 1e4, -3.4e38, 3.4e38), "sigmoid")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [0, 0, 0.5, 1, 1, 0, 1])


def test_the_sigmoid_is_the_softmax_of_two_answers() -> None:
    no, yes = 1.25, -0.5
    expected = math.exp(yes) / (math.exp(no) + math.exp(yes))
    assert activate(logits(yes - no), "sigmoid")[0] == np.float32(expected)


def test_a_small_probability_keeps_its_digits() -> None:
    np.testing.assert_allclose(activate(logits(-60), "sigmoid"), [math.exp(-60)], rtol=1e-6)


def test_the_sigmoid_never_falls_as_the_logit_rises() -> None:
    rising = np.linspace(-120, 120, 20_001, dtype=np.float32)
    found = activate(rising, "sigmoid")
    assert (np.diff(found) >= 0).all()
    assert (np.diff(found[np.abs(rising) < 8]) > 0).all(), "and rises wherever float32 can tell"
    assert found.min() >= 0
    assert found.max() <= 1


def test_logits_pass_as_they_are() -> None:
    values = logits(-1e4, 0.1, 7)
    np.testing.assert_array_equal(activate(values, "logit"), values)


def test_no_scores_are_no_scores() -> None:
    assert activate(logits(), "sigmoid").shape == (0,)
    assert best_first(logits(), None).tolist() == []
    assert best_first(logits(), 3).tolist() == []
    assert check_finite(logits()).shape == (0,)


@pytest.mark.parametrize("activation", ["softmax", "", None, "Sigmoid"])
def test_an_unknown_activation_is_refused(activation: Any) -> None:
    with pytest.raises(InputError, match=f"activation {activation!r} is unknown; choose one of sigmoid, logit"):
        check_activation(activation)


def test_equal_scores_keep_their_order() -> None:
    scores = logits(0.5, 2, 0.5, -1, 2, 0.5)
    assert best_first(scores, None).tolist() == [1, 4, 0, 2, 5, 3]
    assert best_first(scores, 4).tolist() == [1, 4, 0, 2]
    assert best_first(np.zeros(100, np.float32), None).tolist() == list(range(100))


@pytest.mark.parametrize("top_k", [1, 3, 6, 1000])
def test_the_best_are_the_first_of_the_whole_order(top_k: int) -> None:
    scores = np.random.default_rng(top_k).standard_normal(6).astype(np.float32)
    expected = sorted(range(6), key=lambda index: -scores[index])
    assert best_first(scores, top_k).tolist() == expected[:top_k]


@pytest.mark.parametrize("top_k", [0, -1, True, False, 2.0, "3"])
def test_a_top_k_that_is_no_whole_number_from_1_on_is_refused(top_k: Any) -> None:
    with pytest.raises(InputError, match=f"top_k {top_k!r} must be a whole number from 1 on"):
        best_first(logits(1, 2), top_k)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_is_refused_with_its_pair(bad: float) -> None:
    with pytest.raises(ComputeError, match=f"the model gave {bad} for pair 2 of 4;"):
        check_finite(logits(0, 1, bad, math.nan))
