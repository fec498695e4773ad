"""Weights rounded with error feedback: the same form as rounded plainly, and products that err less on like rows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from quoit_export.precisions.int8 import INT8_MAX, quantize_outputs
from quoit_export.quantize.error_feedback import BLOCK, feedback, round_with_feedback

Values = NDArray[np.float32]


def make_rows(count: int, inputs: int, seed: int) -> Values:
    """Rows whose values depend on each other: a quarter as many causes as values, and some noise."""
    causes = np.random.default_rng(0).standard_normal((max(1, inputs // 4), inputs))
    generator = np.random.default_rng(seed)
    noise = 0.1 * generator.standard_normal((count, inputs))
    return (generator.standard_normal((count, len(causes))) @ causes + noise).astype(np.float32)


@pytest.mark.parametrize("inputs", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1])
@pytest.mark.parametrize("count", [1, 64, 400])
def test_products_of_new_rows_err_less(count: int, inputs: int) -> None:
    """With few rows, or a single input, at least no more than a little; with many, less than half in energy."""
    weight = np.random.default_rng(1).standard_normal((32, inputs)).astype(np.float32)
    integers, scale = round_with_feedback(weight, feedback(make_rows(count, inputs, 2)))
    plain, plain_scale = quantize_outputs(weight)
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= INT8_MAX
    np.testing.assert_array_equal(scale, plain_scale)
    rows = make_rows(500, inputs, 3)
    fed, rounded = (np.linalg.norm(rows @ (some * scale[:, None] - weight).T) ** 2 for some in (integers, plain))
    assert fed <= rounded * (0.5 if count >= 64 and inputs > 1 else 1.2)


def test_it_is_what_the_definition_says() -> None:
    """The matrix is U of inverse(M) = U^T U; few rows and many give the same, for the same second moments."""
    rows = make_rows(40, 60, 0)
    few, many = feedback(rows), feedback(np.concatenate([rows, rows]))
    np.testing.assert_allclose(few, many, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(few, np.triu(few))
    normed = rows / np.sqrt(np.mean(np.square(rows), axis=1, keepdims=True))
    moments = normed.T @ normed / len(rows)
    moments += 0.01 * np.mean(np.diag(moments)) * np.eye(60, dtype=np.float32)
    np.testing.assert_allclose(few.T @ few @ moments, np.eye(60), atol=2e-3)


def test_massive_rows_count_like_others() -> None:
    rows = make_rows(100, 50, 0)
    larger = rows.copy()
    larger[::7] *= 1e4
    np.testing.assert_allclose(feedback(rows), feedback(larger), rtol=1e-3, atol=1e-4)


def test_rows_of_zeros_ask_for_plain_rounding() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 20)).astype(np.float32)
    integers, _ = round_with_feedback(weight, feedback(np.zeros((5, 20), np.float32)))
    np.testing.assert_array_equal(integers, quantize_outputs(weight)[0])
