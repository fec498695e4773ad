"""How far int8 and int4 would err, computed in numpy: rows and weights are rounded as a graph does, then multiplied.

Errors are squared and relative to the output, a mean over an input's linear layers and the observed rows. This module
does not know which error is good enough.
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
"""Tokens whose embeddings' rounding is looked at."""
TINY = 1e-30

Rounding = Callable[[Values], Values]
"""Values as they are stored, in float32 again."""


def round_rows(rows: Values) -> Values:
    """Activations [n, in] as `Int8Encoding` rounds them, in 127ths of each row's largest magnitude."""
    largest = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), np.float32(SMALLEST_ROW_MAXIMUM))
    scale = largest * np.float32(1 / INT8_MAX)
    rounded: Values = np.rint(rows / scale) * scale
    return rounded


def round_evenly(rows: Values, step: float) -> Values:
    """Activations as `Int8Encoding` rounds and clips them to one step."""
    rounded: Values = np.clip(np.rint(rows / np.float32(step)), -INT8_MAX - 1, INT8_MAX) * np.float32(step)
    return rounded


def round_row_blocks(rows: Values) -> Values:
    """Activations as MatMulNBits rounds them, every BLOCK values of a row by themselves."""
    count, inputs = rows.shape
    filled = np.pad(rows, ((0, 0), (0, -inputs % BLOCK))).reshape(-1, BLOCK)
    return round_rows(filled).reshape(count, -1)[:, :inputs]


def as_int8(weight: Values) -> Values:
    """A weight [out, in], or rows of the token table, as int8 holds them."""
    integers, scale = quantize_outputs(weight)
    return integers * scale[:, None]


def as_float16(table: Values) -> Values:
    """Rows of the token table as float16 holds them."""
    return table.astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Arithmetic:
    """What a linear layer makes of the rows that it reads, and of its weight."""

    rows: Rounding
    weight: Rounding


INT8 = Arithmetic(round_rows, as_int8)
INT4 = Arithmetic(round_row_blocks, restore_blocks)
INT4_AT_FIRST_SIGHT = Arithmetic(round_row_blocks, partial(restore_blocks, candidates=CANDIDATES[:1]))
"""A quarter of the work, for comparisons: its error is larger by a twentieth."""


def in_steps(step: float) -> Arithmetic:
    """Int8 with one step for all rows."""
    return Arithmetic(partial(round_evenly, step=step), as_int8)


def input_error(
    folding: Folding, read: ReadTensor, name: str, activations: Activations, arithmetic: Arithmetic = INT8
) -> float:
    """The error of an input's linear layers."""
    return input_errors(folding, read, name, activations, [arithmetic])[0]


def input_errors(
    folding: Folding, read: ReadTensor, name: str, activations: Activations, arithmetics: Sequence[Arithmetic]
) -> list[float]:
    """The same for several arithmetics."""
    rows = folding.activations(read, name, activations.rows[name])
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
    """The squared error of the stored token table, relative to what an input's readers see of it; of the worst one.

    A channel that towers over the others and that norms hold back is harmless as it is, and drowns them where a
    rotation spreads it.
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
    """How much the readers of each input behind a norm see of each channel: its norm's weight times their columns."""
    for one in inputs:
        if one.norm is not None:
            yield read(f"{one.norm}.weight").astype(np.float32) * largest_columns(read, one)


def largest_columns(read: ReadTensor, source: LinearInput) -> Values:
    """The largest magnitude of each column of an input's readers."""
    columns = (np.abs(read(f"{linear}.weight").astype(np.float32)).max(axis=0) for linear in source.linears)
    return reduce(np.maximum, columns)
