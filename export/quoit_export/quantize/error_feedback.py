"""Round weights to int8 or int4 so that each value makes up for the errors of those before it.

A weight is rounded input by input. The error of each value is fed back into the inputs that are not yet rounded, in
the proportion that keeps the layer's output on observed rows as it was. This is GPTQ (Frantar et al. 2022). In int8 an
output's scale stays that of plain rounding. In int4 a block's scale is chosen when its turn comes, for the values that
it then has. It costs nothing at run time: integers and scales have the form that plain rounding gives them.

Every row counts alike: it is divided by its root mean square, so that massive tokens do not rule. This module does not
know where rows come from, nor which graph reads the weights.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit_export.precisions.blocks import BLOCK as QUANTIZED_BLOCK
from quoit_export.precisions.blocks import HIGHEST, LOWEST, best_blocks, block_count
from quoit_export.precisions.chunks import row_chunks
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.precisions.int8 import INT8_MAX, quantize_outputs
from quoit_export.quantize.calibration import Activations
from quoit_export.quantize.folding import Folding, Values

DAMPING = 0.01
"""Share of the mean second moment that is added to every input's own, as in GPTQ's published code."""
BLOCK = 128
"""Number of inputs whose errors reach the inputs behind them in one product."""
TINY = 1e-20


@dataclass
class ErrorFeedback:
    """Rounds a folded model's weights with the feedback that the observed rows of each input ask for.

    Attributes:
        folding: the folds of the model.
        read: function that returns a tensor by its name in the checkpoint.
        activations: the observed inputs of the linear layers.
        last: the name and matrix of the input whose layers were rounded last; layers of one input follow each other.
    """

    folding: Folding
    read: ReadTensor
    activations: Activations
    last: tuple[str, Values] | None = field(default=None, repr=False)

    def round_outputs(self, linear: str, weight: NDArray[Any]) -> tuple[NDArray[np.int8], Values]:
        """Return a linear layer's folded weight [out, in] as ([out, in] int8, [out] float32)."""
        return round_with_feedback(weight, self._matrix(linear))

    def round_blocks(self, linear: str, weight: NDArray[Any]) -> tuple[NDArray[np.int8], Values]:
        """Return a linear layer's folded weight [out, in] in blocks: integers [out, blocks, BLOCK], [out, blocks]."""
        return round_blocks_with_feedback(weight, self._matrix(linear))

    def _matrix(self, linear: str) -> Values:
        """Return the matrix of a linear layer's input; see `feedback`."""
        name = self.folding.architecture.read_by[linear].name
        if self.last is None or self.last[0] != name:
            self.last = None
            rows = self.folding.activations(self.read, name, self.activations.rows[name])
            self.last = name, feedback(rows)
        return self.last[1]


def feedback(rows: Values) -> Values:
    """Return the upper triangular matrix [in, in] that says how an input's error is made up for by those behind it.

    It is U of inverse(M) = U^T U (GPTQ's algorithm 1), where M are the second moments of the rows, each divided by its
    root mean square, plus DAMPING times their mean. Values that are zero in all rows are left out, and rounded plainly.

    Args:
        rows: observed rows of the input, [n, in].
    """
    alive = np.flatnonzero(rows.any(axis=0))
    upper = np.eye(rows.shape[1], dtype=np.float32)
    if len(alive):
        upper[np.ix_(alive, alive)] = np.linalg.cholesky(_inverse_moments(rows[:, alive].astype(np.float64))).T
    return upper


def _inverse_moments(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of the damped second moments of rows [n, in], which are overwritten.

    If there are fewer rows than inputs, it is computed from the products of rows (Woodbury's identity).
    """
    count, inputs = rows.shape
    rows /= np.sqrt(np.maximum(np.mean(rows**2, axis=1, keepdims=True), TINY) * count)
    damping = DAMPING * float(np.mean(np.sum(rows**2, axis=0)))
    if count >= inputs:
        inverse = np.linalg.inv(rows.T @ rows + damping * np.eye(inputs))
    else:
        inverse = rows.T @ np.linalg.solve(rows @ rows.T + damping * np.eye(count), rows)
        inverse /= -damping
        inverse[np.diag_indices(inputs)] += 1 / damping
    symmetric: NDArray[np.float64] = (inverse + inverse.T) / 2
    return symmetric


def round_with_feedback(weight: Values, upper: Values) -> tuple[NDArray[np.int8], Values]:
    """Return a weight [out, in] in symmetric int8, one scale per output: ([out, in] int8, [out] float32).

    Args:
        weight: the weight.
        upper: the matrix of its input, from `feedback`.
    """
    _, scale = quantize_outputs(weight)
    integers = np.empty(weight.shape, np.int8)
    for some in row_chunks(*weight.shape):
        integers[some] = _round(weight[some].astype(np.float32) / scale[some, None], upper)
    return integers, scale


def round_blocks_with_feedback(weight: Values, upper: Values) -> tuple[NDArray[np.int8], Values]:
    """Return the four-bit integers [out, blocks, BLOCK] of a weight [out, in], and the scales [out, blocks].

    Args:
        weight: the weight.
        upper: the matrix of its input, from `feedback`.
    """
    outputs, inputs = weight.shape
    blocks = block_count(inputs)
    integers = np.empty((outputs, blocks, QUANTIZED_BLOCK), np.int8)
    scales = np.empty((outputs, blocks), np.float32)
    for some in row_chunks(*weight.shape):
        integers[some], scales[some] = _round_blocks(weight[some].astype(np.float32), upper)
    return integers, scales


def _round_blocks(weight: Values, upper: Values) -> tuple[NDArray[np.int8], Values]:
    """Return the integers and scales of a weight [out, in], as `round_blocks_with_feedback` does."""
    outputs, inputs = weight.shape
    blocks = block_count(inputs)
    columns = np.zeros((blocks * QUANTIZED_BLOCK, outputs), np.float32)
    columns[:inputs] = weight.T
    integers = np.zeros(columns.shape, np.int8)
    scales = np.empty((blocks, outputs), np.float32)
    for block in range(blocks):
        start = block * QUANTIZED_BLOCK
        end = min(start + QUANTIZED_BLOCK, inputs)
        _, scales[block] = best_blocks(columns[start : start + QUANTIZED_BLOCK].T)
        step = np.where(scales[block] == 0, np.float32(1), scales[block])
        errors = np.empty((end - start, outputs), np.float32)
        for index in range(start, end):
            rounded = np.clip(np.rint(columns[index] / step), LOWEST, HIGHEST)
            integers[index] = rounded
            error = errors[index - start]
            np.divide(columns[index] - rounded * scales[block], upper[index, index], out=error)
            columns[index + 1 : end] -= upper[index, index + 1 : end, None] * error
        columns[end:inputs] -= upper[start:end, end:].T @ errors
    shaped = integers.T.reshape(outputs, blocks, QUANTIZED_BLOCK)
    return np.ascontiguousarray(shaped), np.ascontiguousarray(scales.T)


def _round(weight: Values, upper: Values) -> NDArray[np.int8]:
    """Return the integers of a weight [out, in] in units of its scales, which is overwritten."""
    inputs = weight.shape[1]
    columns = np.ascontiguousarray(weight.T)
    integers = np.empty(columns.shape, np.int8)
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors = np.empty((end - start, columns.shape[1]), np.float32)
        for index in range(start, end):
            rounded = np.clip(np.rint(columns[index]), -INT8_MAX, INT8_MAX)
            integers[index] = rounded
            error = errors[index - start]
            np.divide(columns[index] - rounded, upper[index, index], out=error)
            columns[index + 1 : end] -= upper[index, index + 1 : end, None] * error
        columns[end:] -= upper[start:end, end:].T @ errors
    return integers.T
