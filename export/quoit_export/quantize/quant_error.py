"""Predict the error of int8 and int4 in numpy: round rows and weights as a graph does, then multiply them.

Errors are squared and relative to the output. They are means over an input's linear layers and the observed rows. This
module does not know which error is good enough.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np

from quoit_export.graph.architecture import LinearInput
from quoit_export.precisions.blocks import BLOCK, CANDIDATES, restore_blocks
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.precisions.int8 import INT8_MAX, SMALLEST_ROW_MAXIMUM, quantize_outputs
from quoit_export.quantize.calibration import Activations
from quoit_export.quantize.folding import Folding, Values

TABLE_ROWS = 512
"""Number of tokens whose embeddings are rounded to estimate the token table's error."""
TINY = 1e-30
UNEVEN = 12.0
"""Minimum ratio of the largest magnitude to the root mean square of an uneven row.

Once rounded, such a row has an error of more than (12 / 127)^2 / 12 of its energy, 0.07 %; see bench/log/."""

Rounding = Callable[[Values], Values]
"""Function that rounds values to the form in which they are stored, and returns them in float32."""


def round_rows(rows: Values) -> Values:
    """Round activations [n, in] as `Int8Encoding` does, in 127ths of each row's largest magnitude."""
    scale = _row_scales(rows)
    rounded: Values = np.rint(rows / scale) * scale
    return rounded


def _row_scales(rows: Values) -> Values:
    """Return the size of a unit of each row [..., in] in one rounding, [..., 1]."""
    largest = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), np.float32(SMALLEST_ROW_MAXIMUM))
    scales: Values = largest * np.float32(1 / INT8_MAX)
    return scales


def round_twice(rows: Values) -> Values:
    """Round activations [n, in] as `Int8Encoding` does where every row takes a second pass."""
    once = round_rows(rows)
    unit = _row_scales(rows) * np.float32(1 / (2 * INT8_MAX))
    rounded: Values = once + np.rint((rows - once) / unit) * unit
    return rounded


def round_uneven_twice(rows: Values) -> Values:
    """Round activations [n, in] as `Int8Encoding` does where uneven rows take a second pass."""
    rounded, uneven = round_rows(rows), peak_ratios(rows) > UNEVEN
    rounded[uneven] = round_twice(rows[uneven])
    return rounded


def peak_ratios(rows: Values) -> Values:
    """Return the ratio of each row's largest magnitude to its root mean square, [n]; 0 for a row of zeros."""
    power = np.sqrt(np.mean(np.square(rows, dtype=np.float64), axis=1))
    ratios: Values = (np.abs(rows).max(axis=1) / np.where(power == 0, 1, power)).astype(np.float32)
    return ratios


def round_evenly(rows: Values, step: float) -> Values:
    """Round and clip activations as `Int8Encoding` does with one fixed step."""
    rounded: Values = np.clip(np.rint(rows / np.float32(step)), -INT8_MAX - 1, INT8_MAX) * np.float32(step)
    return rounded


def round_row_blocks(rows: Values) -> Values:
    """Round activations as MatMulNBits does, every BLOCK values of a row by themselves."""
    count, inputs = rows.shape
    filled = np.pad(rows, ((0, 0), (0, -inputs % BLOCK))).reshape(-1, BLOCK)
    return round_rows(filled).reshape(count, -1)[:, :inputs]


def as_int8(weight: Values) -> Values:
    """Round a weight [out, in], or rows of the token table, as int8 stores them."""
    integers, scale = quantize_outputs(weight)
    return integers * scale[:, None]


def as_float16(table: Values) -> Values:
    """Round rows of the token table as float16 stores them."""
    return table.astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Arithmetic:
    """Rounding of a linear layer's rows and of its weight."""

    rows: Rounding
    weight: Rounding


INT8 = Arithmetic(round_rows, as_int8)
INT8_UNEVEN_TWICE = Arithmetic(round_uneven_twice, as_int8)
INT8_TWICE = Arithmetic(round_twice, as_int8)
INT4 = Arithmetic(round_row_blocks, restore_blocks)
INT4_AT_FIRST_SIGHT = Arithmetic(round_row_blocks, partial(restore_blocks, candidates=CANDIDATES[:1]))
"""Faster rounding for comparisons: a quarter of the work, with an error that is larger by a twentieth."""


def in_steps(step: float) -> Arithmetic:
    """Return int8 arithmetic with one step for all rows."""
    return Arithmetic(partial(round_evenly, step=step), as_int8)


def input_error(
    folding: Folding, read: ReadTensor, name: str, activations: Activations, arithmetic: Arithmetic = INT8
) -> float:
    """Return the error of an input's linear layers."""
    return input_errors(folding, read, name, activations, [arithmetic])[0]


def input_errors(
    folding: Folding, read: ReadTensor, name: str, activations: Activations, arithmetics: Sequence[Arithmetic]
) -> list[float]:
    """Return the error of an input's linear layers for each of several arithmetics."""
    rows = folding.activations(read, name, activations.sample(name))
    rounded = [arithmetic.rows(rows) for arithmetic in arithmetics]
    folded = folding.reader(read)
    errors = []
    for linear in folding.architecture.input[name].linears:
        weight = folded(f"{linear}.weight")
        exact = (rows @ weight.T).astype(np.float64)
        power = np.maximum(np.sum(exact**2, axis=1), TINY)
        stored = {kind: kind(weight).T for kind in dict.fromkeys(arithmetic.weight for arithmetic in arithmetics)}
        found = (some @ stored[arithmetic.weight] for some, arithmetic in zip(rounded, arithmetics, strict=True))
        errors.append([float(np.mean(np.sum((one - exact) ** 2, axis=1) / power)) for one in found])
    return [float(error) for error in np.mean(errors, axis=0)]


def table_error(folding: Folding, read: ReadTensor, inputs: Iterable[str], store: Rounding) -> float:
    """Return the squared error of the stored token table, relative to the table as its readers see it.

    The largest error over the final norm and the inputs is returned; infinity if a stored value is not finite. A
    channel much larger than the others is harmless without a rotation, if norms reduce it. A rotation spreads it over
    the other channels, and its rounding then hides them.
    """
    architecture = folding.architecture
    table = read(architecture.token_table)
    exact = table[np.linspace(0, len(table) - 1, TABLE_ROWS).astype(int)].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = exact if folding.stream is None else folding.stream.apply(exact)
        stored = store(stored)
        lost = (stored if folding.stream is None else stored @ folding.stream.matrix.T) - exact
    if not np.isfinite(lost).all():
        return np.inf
    errors = []
    norm = read(f"{architecture.final_norm}.weight").astype(np.float32)
    for seen in (norm, *_sensitivities(read, [architecture.input[name] for name in inputs])):
        power = np.maximum(np.sum((exact * seen) ** 2, axis=1), TINY)
        errors.append(float(np.mean(np.sum((lost * seen) ** 2, axis=1) / power)))
    return max(errors)


def _sensitivities(read: ReadTensor, inputs: Iterable[LinearInput]) -> Iterator[Values]:
    """Yield the weight of each channel for the readers of each input behind a norm.

    It is the norm's weight times the largest magnitude of the readers' columns.
    """
    for one in inputs:
        if one.norm is not None:
            yield read(f"{one.norm}.weight").astype(np.float32) * largest_columns(read, one)


def largest_columns(read: ReadTensor, source: LinearInput) -> Values:
    """Return the largest magnitude of each column over an input's readers."""
    columns = (np.abs(read(f"{linear}.weight").astype(np.float32)).max(axis=0) for linear in source.linears)
    return reduce(np.maximum, columns)
