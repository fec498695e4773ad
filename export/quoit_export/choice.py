"""Which folds an int8 variant gets: those whose rounding, computed on calibration rows, errs least.

Of every method the error of each linear layer is computed as the graph would make it, from activations rounded row by
row and weights rounded column by column. A layer that no fold makes good enough stays in float32. Behind the norms of a
rotated stream all rows are alike (of one length, no channel standing out): there one step for all rows is tried, which
spares the graph the look at each row. This module does not know how activations are observed (`calibration`), nor what
the folds do to the tensors (`folding`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from tqdm import tqdm

from quoit.artifact import Architecture, Calibration, Quantization
from quoit_export.calibration import Activations
from quoit_export.checkpoint import linear_shapes
from quoit_export.folding import (
    NORMS,
    PRODUCERS,
    READERS,
    Channels,
    Folding,
    Values,
    input_names,
    make_rotation,
    share_among_heads,
    smoothing_scales,
    split_name,
)
from quoit_export.precision import INT8_MAX, SMALLEST_ROW_MAXIMUM, Int8Encoding, ReadTensor, quantize_outputs

SEED = 20_230
"""Of rotations; any one does as well, see bench/LOG.md."""
ALPHAS = (0.4, 0.5, 0.65)
MOST_LAYERS = 8
LEAST_LAYERS = 3
COMPARED_WEIGHTS = 600_000_000
"""Methods are compared on so many layers, fewer of them where they are large, and the one chosen is then looked at in
all. Of the 0.6B shape these are 8 layers, of 4B 5 and of 8B 3; see bench/LOG.md."""
MOST_ERROR = 0.01
"""A linear layer whose squared error exceeds this share of its output stays in float32."""
NEARLY = 1.05
"""Of methods whose errors differ by less, a rotated one is taken, since steps can be fixed there."""
STEP_MARGIN = 1.1
"""How far a fixed step reaches beyond the largest magnitude of the observed rows; what is beyond that is clipped."""
MOST_STEP_ERROR = 0.0005
"""A step is fixed where the error that it leads to is not above this."""
MOST_TABLE_ERROR = 0.0002
"""The token table is stored in int8 where the error that it adds is not above this."""
TABLE_ROWS = 512
"""Tokens whose embeddings' rounding is looked at."""
TINY = 1e-30
DIGITS = 4


@dataclass(frozen=True)
class Method:
    """A combination of folds."""

    alpha: float | None = None
    rotated: bool = False
    heads: bool = False

    @property
    def name(self) -> str:
        """As the manifest has it."""
        parts = {
            "rotate": self.rotated,
            f"smooth {self.alpha}": self.alpha is not None,
            "heads": self.heads,
        }
        return " + ".join(part for part, made in parts.items() if made) or "plain"


METHODS = (
    Method(),
    *(Method(alpha) for alpha in ALPHAS),
    *(Method(alpha, heads=True) for alpha in ALPHAS),
    Method(rotated=True),
    *(Method(alpha, rotated=True) for alpha in ALPHAS),
    *(Method(alpha, rotated=True, heads=True) for alpha in ALPHAS),
)
"""From the simplest on; of equals the first is taken."""
UNROTATED = tuple(method for method in METHODS if not method.rotated)
"""What is left where a rotation turned out worse than was predicted."""


Rounding = Callable[[Values], tuple[Values, Values]]
"""Rows [n, in] to whole numbers and the scales that they have to be multiplied by, [n, 1] or []."""


@dataclass(frozen=True)
class Plan:
    """How an int8 variant is made, and what the manifest says of it."""

    folding: Folding
    record: Quantization

    @property
    def encoding(self) -> Int8Encoding:
        """How the folded tensors are stored."""
        record = self.record
        return Int8Encoding(floats=frozenset(record.floats), steps=record.steps, int8_table=record.int8_table)


def choose(
    read: ReadTensor,
    numbers: Architecture,
    activations: Activations,
    calibration: Calibration,
    methods: Iterable[Method] = METHODS,
) -> Plan:
    """The method that leaves the fewest linear layers in float32, and of such the one with the least predicted error.

    Args:
        read: a tensor by its name in the checkpoint.
        numbers: the decoder's.
        activations: what its linear layers read.
        calibration: where that was observed.
        methods: those to choose from.
    """
    methods = list(methods)
    layers = _spaced(numbers)
    compared = [name for name in input_names(numbers) if split_name(name)[0] in layers]
    errors: dict[Method, float] = {}
    ranks: dict[Method, tuple[int, float]] = {}
    tables: dict[bool, float] = {}
    for method in tqdm(methods, desc="choosing", unit=" methods", disable=None):
        folding = fold(read, numbers, activations, method, compared)
        if method.rotated not in tables:
            tables[method.rotated] = table_error(folding, read, compared, as_float16)
        linears = [input_error(folding, read, name, activations) for name in compared]
        good = [error for error in linears if is_good(error)]
        errors[method] = float(np.mean(linears)) + tables[method.rotated]
        ranks[method] = len(linears) - len(good), sum(good) / len(linears) + tables[method.rotated]
    chosen = _first_of_nearly_equal(ranks)
    folding = fold(read, numbers, activations, chosen, input_names(numbers))
    poor, steps = _settle(folding, read, activations)
    table = table_error(folding, read, compared, as_int8)
    record = Quantization(
        method=chosen.name,
        alpha=chosen.alpha,
        seed=SEED if chosen.rotated or chosen.heads else None,
        floats=tuple(linear for name in poor for linear in linears_of(name)),
        steps=steps,
        int8_table=table <= MOST_TABLE_ERROR,
        calibration=calibration,
        errors={method.name: float(f"{error:.{DIGITS}g}") for method, error in errors.items()},
    )
    return Plan(folding, record)


def _first_of_nearly_equal(ranks: dict[Method, tuple[int, float]]) -> Method:
    """The best method: of the fewest layers in float32 and the least error, but for what NEARLY says."""
    floats, least = min(ranks.values())
    near = [method for method, (count, error) in ranks.items() if count == floats and error <= NEARLY * least]
    return min(near or ranks, key=lambda method: (not method.rotated, ranks[method]))


def _settle(folding: Folding, read: ReadTensor, activations: Activations) -> tuple[list[str], dict[str, float]]:
    """Of all inputs, those that int8 is not good enough for, and those whose rows one step is good enough for."""
    poor: list[str] = []
    steps: dict[str, float] = {}
    for name in tqdm(input_names(folding.numbers), desc="settling", unit=" inputs", disable=None):
        step = None
        if folding.stream is not None and split_name(name)[1] in NORMS:
            rows = folding.activations(read, name, activations.rows[name])
            step = float(STEP_MARGIN * np.abs(rows).max() / INT8_MAX)
        roundings: list[Rounding] = [quantize_rows]
        if step is not None:
            roundings.append(partial(quantize_evenly, step=step))
        error, *even = input_errors(folding, read, name, activations, roundings)
        if not is_good(error):
            poor.append(name)
        elif step is not None and even[0] <= MOST_STEP_ERROR:
            steps[name] = step
    return poor, steps


def is_good(error: float) -> bool:
    """Whether a linear layer with this error may be stored in int8; NaN may not."""
    return error <= MOST_ERROR


def fold(
    read: ReadTensor, numbers: Architecture, activations: Activations, method: Method, inputs: Iterable[str]
) -> Folding:
    """The folds of a method, with scales for some inputs.

    Where the stream is rotated, the inputs behind norms are not smoothed: none of their channels stands out any more.
    """
    scales: dict[str, Channels] = {}
    if method.alpha is not None:
        names = list(inputs)
        produced = [name for name in names if split_name(name)[1] in PRODUCERS]
        scales = {name: _scales(read, numbers, activations, name, method.alpha) for name in produced}
        if not method.rotated:
            # v's and up's rows must have been divided before their columns are looked at, or these would tell of c.
            divided = Folding(numbers, scales).reader(read)
            normed = [name for name in names if name not in scales]
            scales |= {name: _scales(divided, numbers, activations, name, method.alpha) for name in normed}
    return Folding(
        numbers,
        scales,
        stream=make_rotation(numbers.hidden_size, SEED) if method.rotated else None,
        heads=make_rotation(numbers.head_dim, SEED + 1) if method.heads else None,
    )


def input_error(folding: Folding, read: ReadTensor, name: str, activations: Activations) -> float:
    """The squared error of int8 relative to the output, as a mean over an input's linear layers and observed rows."""
    return input_errors(folding, read, name, activations, [quantize_rows])[0]


def input_errors(
    folding: Folding, read: ReadTensor, name: str, activations: Activations, roundings: Sequence[Rounding]
) -> list[float]:
    """The same for several ways to round the rows."""
    rows = folding.activations(read, name, activations.rows[name])
    rounded = [rounding(rows) for rounding in roundings]
    folded = folding.reader(read)
    errors = []
    for linear in linears_of(name):
        weight = folded(f"{linear}.weight")
        integers, column_scale = quantize_outputs(weight)
        exact = (rows @ weight.T).astype(np.float64)
        power = np.maximum(np.sum(exact**2, axis=1), TINY)
        stored = integers.astype(np.float32).T
        found = ((quantized @ stored) * column_scale * row_scale for quantized, row_scale in rounded)
        errors.append([float(np.mean(np.sum((one - exact) ** 2, axis=1) / power)) for one in found])
    return [float(error) for error in np.mean(errors, axis=0)]


def table_error(folding: Folding, read: ReadTensor, inputs: Iterable[str], store: Callable[[Values], Values]) -> float:
    """The squared error of the stored token table, relative to what an input's readers see of it; of the worst one.

    A channel that towers over the others and that norms hold back is harmless as it is, and drowns them where a
    rotation spreads it.
    """
    table = read("embed_tokens.weight")
    exact = table[np.linspace(0, len(table) - 1, TABLE_ROWS).astype(int)].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = exact if folding.stream is None else folding.stream.apply(exact)
        stored = store(stored)
        lost = (stored if folding.stream is None else stored @ folding.stream.matrix.T) - exact
    if not np.isfinite(lost).all():
        return np.inf
    errors = []
    for seen in (read("norm.weight").astype(np.float32), *_sensitivities(read, inputs)):
        power = np.maximum(np.sum((exact * seen) ** 2, axis=1), TINY)
        errors.append(float(np.mean(np.sum((lost * seen) ** 2, axis=1) / power)))
    return max(errors)


def _sensitivities(read: ReadTensor, inputs: Iterable[str]) -> Iterator[Values]:
    """How much the readers of each input behind a norm see of each channel: its norm's weight times their columns."""
    for name in inputs:
        layer, part = split_name(name)
        if part in NORMS:
            yield read(f"{layer}.{NORMS[part]}.weight").astype(np.float32) * _columns(read, name)


def _columns(read: ReadTensor, name: str) -> Values:
    """The largest magnitude of each column of an input's readers."""
    columns = (np.abs(read(f"{linear}.weight").astype(np.float32)).max(axis=0) for linear in linears_of(name))
    return reduce(np.maximum, columns)


def as_float16(table: Values) -> Values:
    """Rows of the token table as float16 holds them."""
    return table.astype(np.float16).astype(np.float32)


def as_int8(table: Values) -> Values:
    """Rows of the token table as int8 holds them."""
    integers, scale = quantize_outputs(table)
    return integers * scale[:, None]


def quantize_evenly(rows: Values, step: float) -> tuple[Values, Values]:
    """Activations rounded and clipped to one step, as `Int8Encoding` does: -128 to 127, and that step."""
    scale = np.float32(step)
    return np.clip(np.rint(rows / scale), -INT8_MAX - 1, INT8_MAX), np.array(scale)


def quantize_rows(rows: Values) -> tuple[Values, Values]:
    """Activations as `Int8Encoding` rounds them: whole numbers from -127 to 127, and each row's scale [n, 1]."""
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.float32(SMALLEST_ROW_MAXIMUM))
    scale = largest * np.float32(1 / INT8_MAX)
    return np.rint(rows / scale), scale


def linears_of(name: str) -> list[str]:
    """The linear layers that read an input."""
    layer, part = split_name(name)
    return [f"{layer}.{linear}" for linear in READERS[part]]


def _scales(read: ReadTensor, numbers: Architecture, activations: Activations, name: str, alpha: float) -> Channels:
    largest, weights = activations.largest[name], _columns(read, name).astype(np.float64)
    if name.endswith("self_attn.o_proj"):
        largest, weights = share_among_heads(largest, numbers), share_among_heads(weights, numbers)
    return smoothing_scales(largest, weights, alpha)


def _spaced(numbers: Architecture) -> set[str]:
    """The prefixes of the layers that methods are compared on, evenly spaced, the first and the last among them."""
    weights = sum(rows * columns for rows, columns in linear_shapes(numbers).values())
    layers = numbers.num_hidden_layers
    count = min(layers, MOST_LAYERS, max(LEAST_LAYERS, COMPARED_WEIGHTS // weights))
    return {f"layers.{int(layer)}" for layer in np.linspace(0, layers - 1, count).round()}
