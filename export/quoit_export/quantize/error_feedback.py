"""Round weights to int8 so that each value makes up for the errors of those before it.

A weight is rounded input by input. The error of each value is fed back into the inputs that are not yet rounded, in
the proportion that keeps the layer's output on observed rows as it was. This is GPTQ (Frantar et al. 2022) with one
scale for each output, which stays that of plain rounding. It costs nothing at run time: integers and scales have the
form that `quantize_outputs` gives them.

Every row counts alike: it is divided by its root mean square, so that massive tokens do not rule. This module does not
know where rows come from, nor which graph reads the weights.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    def __call__(self, linear: str, weight: NDArray[Any]) -> tuple[NDArray[np.int8], Values]:
        """Return a linear layer's folded weight [out, in] as ([out, in] int8, [out] float32)."""
        name = self.folding.architecture.read_by[linear].name
        if self.last is None or self.last[0] != name:
            self.last = None
            rows = self.folding.activations(self.read, name, self.activations.rows[name])
            self.last = name, feedback(rows)
        return round_with_feedback(weight, self.last[1])


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
