"""Which folds an int8 or int4 variant gets: those whose rounding, computed on calibration rows, errs least.

Of every method the error of each linear layer is computed as the graph would make it (`prediction`). A layer that no
fold makes good enough for int4 is stored as in int8, and what is not good enough for int8 stays in float32. Behind the
norms of a rotated stream all rows are alike (of one length, no channel standing out): there one step for all rows is
tried, which spares the graph the look at each row. This module does not know how activations are observed
(`calibration`), nor what the folds do to the tensors (`folding`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Literal

import numpy as np
from tqdm import tqdm

from quoit.artifact import Quantization
from quoit_export.graph.architecture import Architecture, LinearInput
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.precisions.int4 import Int4Encoding
from quoit_export.precisions.int8 import INT8_MAX, Int8Encoding
from quoit_export.quantize.calibration import Activations, Observed
from quoit_export.quantize.folding import (
    Channels,
    Folding,
    make_rotation,
    share_among_heads,
    smoothing_scales,
)
from quoit_export.quantize.quant_error import (
    INT4,
    INT4_AT_FIRST_SIGHT,
    INT8,
    Arithmetic,
    as_float16,
    as_int8,
    in_steps,
    input_error,
    input_errors,
    largest_columns,
    table_error,
)

SEED = 20_230
"""Of rotations; any one does as well, see bench/log/."""
ALPHAS = (0.4, 0.5, 0.65)
MAX_LAYERS = 8
MIN_LAYERS = 3
COMPARED_WEIGHTS = 600_000_000
"""Methods are compared on so many layers, fewer of them where they are large, and the one chosen is then looked at in
all. Of the 0.6B shape these are 8 layers, of 4B 5 and of 8B 3; see bench/log/."""
Bits = Literal[8, 4]
INT8_BITS: Bits = 8
INT4_BITS: Bits = 4
MAX_ERROR: dict[Bits, float] = {8: 0.01, 4: 0.02}
"""A linear layer whose squared error exceeds this share of its output is stored otherwise: of int4 in int8, of int8 in
float32."""
COMPARED_AS: dict[Bits, Arithmetic] = {8: INT8, 4: INT4_AT_FIRST_SIGHT}
NEARLY = 1.05
"""Of methods whose errors differ by less, a rotated one is taken, since steps can be fixed there."""
STEP_MARGIN = 1.1
"""How far a fixed step reaches beyond the largest magnitude of the observed rows; what is beyond that is clipped."""
MAX_STEP_ERROR = 0.0005
"""A step is fixed where the error that it leads to is not above this."""
MAX_TABLE_ERROR = 0.0002
"""The token table is stored in int8 where the error that it adds is not above this."""
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
BY_NAME = {method.name: method for method in METHODS}
UNROTATED = tuple(method for method in METHODS if not method.rotated)
"""What is left where a rotation turned out worse than was predicted."""


@dataclass(frozen=True)
class Plan:
    """How an int8 or int4 variant is made, and what the manifest says of it."""

    folding: Folding
    record: Quantization
    bits: Bits = INT8_BITS

    @property
    def encoding(self) -> Int8Encoding | Int4Encoding:
        """How the folded tensors are stored."""
        record = self.record
        int8 = Int8Encoding(
            float32_layers=frozenset(record.float32_layers), steps=record.steps, int8_table=record.int8_table
        )
        return int8 if self.bits == INT8_BITS else Int4Encoding(int8, frozenset(record.int8_layers))


def choose(observed: Observed, methods: Iterable[Method] = METHODS, bits: Bits = INT8_BITS) -> Plan:
    """The method that most linear layers are good enough with, and of such the one with the least predicted error.

    Args:
        observed: what to choose for.
        methods: the methods to choose from.
        bits: of the weights.
    """
    read, architecture, activations = observed.read, observed.architecture, observed.activations
    compared = _compared(architecture)
    errors: dict[str, float] = {}
    ranks: dict[Method, tuple[int, float]] = {}
    tables: dict[bool, float] = {}
    for method in tqdm(list(methods), desc="choosing", unit=" methods", disable=None):
        folding = fold(read, architecture, activations, method, compared)
        if method.rotated not in tables:
            tables[method.rotated] = table_error(folding, read, compared, as_float16)
        linears = [input_error(folding, read, name, activations, COMPARED_AS[bits]) for name in compared]
        good = [error for error in linears if is_good(error, bits)]
        errors[method.name] = float(f"{np.mean(linears) + tables[method.rotated]:.{DIGITS}g}")
        ranks[method] = len(linears) - len(good), sum(good) / len(linears) + tables[method.rotated]
    return examine(observed, _first_of_nearly_equal(ranks), errors, bits).plan()


@dataclass(frozen=True)
class Look:
    """What is predicted of an input.

    Attributes:
        error: of its linear layers in the bits that are wanted.
        int8: in int8.
        step: the step for all rows, where one may be fixed.
    """

    error: float
    int8: float
    step: float | None


@dataclass(frozen=True)
class Examined:
    """A method, folded, and what is predicted of every input: enough for a plan.

    Attributes:
        observed: what it was examined for.
        method: the method.
        folding: its folds.
        errors: what the manifest is to say of the methods that were compared.
        bits: of the weights.
        looks: by input.
        int8_table: whether the token table may be int8.
    """

    observed: Observed
    method: Method
    folding: Folding
    errors: dict[str, float]
    bits: Bits
    looks: dict[str, Look]
    int8_table: bool

    def plan(self, spared: float = 0.0) -> Plan:
        """How each linear layer is stored.

        Args:
            spared: at least this share of the inputs, those whose rounding errs most, have their linear layers stored
                in more than `bits`.
        """
        settled, method, inputs = self._settle(spared), self.method, self.observed.architecture.input
        record = Quantization(
            method=method.name,
            alpha=method.alpha,
            seed=SEED if method.rotated or method.heads else None,
            float32_layers=tuple(linear for name in settled.float32_layers for linear in inputs[name].linears),
            int8_layers=tuple(linear for name in settled.int8_layers for linear in inputs[name].linears),
            steps=settled.steps,
            int8_table=self.int8_table,
            calibration=self.observed.calibration,
            errors=self.errors,
        )
        return Plan(self.folding, record, self.bits)

    def _settle(self, spared: float) -> "Settled":
        better = {name for name, look in self.looks.items() if not is_good(look.error, self.bits)}
        count = math.ceil(spared * len(self.looks))
        better.update(nlargest(count, self.looks, key=lambda name: (name in better, self.looks[name].error)))
        settled = Settled()
        for name, look in self.looks.items():
            if self.bits == INT4_BITS and name not in better:
                continue
            if not is_good(look.int8) or (self.bits == INT8_BITS and name in better):
                settled.float32_layers.append(name)
                continue
            if self.bits == INT4_BITS:
                settled.int8_layers.append(name)
            if look.step:
                settled.steps[name] = look.step
        return settled


def examine(observed: Observed, method: Method, errors: dict[str, float], bits: Bits = INT8_BITS) -> Examined:
    """Looks at every input of the decoder, folded by one method; the arguments are attributes of `Examined`."""
    read, architecture = observed.read, observed.architecture
    names = list(architecture.input)
    folding = fold(read, architecture, observed.activations, method, names)
    looks = {
        name: _look(folding, read, name, observed.activations, bits)
        for name in tqdm(names, desc="settling", unit=" inputs", disable=None)
    }
    table = table_error(folding, read, _compared(architecture), as_int8)
    return Examined(observed, method, folding, errors, bits, looks, table <= MAX_TABLE_ERROR)


def _compared(architecture: Architecture) -> list[str]:
    """The inputs that methods are compared on."""
    layers = _spaced(architecture)
    return [one.name for one in architecture.inputs if one.layer in layers]


def _first_of_nearly_equal(ranks: dict[Method, tuple[int, float]]) -> Method:
    """The best method: of the fewest layers in float32 and the least error, but for what NEARLY says."""
    floats, least = min(ranks.values())
    near = [method for method, (count, error) in ranks.items() if count == floats and error <= NEARLY * least]
    return min(near or ranks, key=lambda method: (not method.rotated, ranks[method]))


@dataclass(frozen=True)
class Settled:
    """The inputs whose linear layers stay in float32, those stored in int8 instead of int4, and the fixed steps."""

    float32_layers: list[str] = field(default_factory=list)
    int8_layers: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)


def _look(folding: Folding, read: ReadTensor, name: str, activations: Activations, bits: Bits) -> Look:
    step = _even_step(folding, read, name, activations)
    arithmetics = [INT8, *([INT4] if bits == INT4_BITS else []), *([in_steps(step)] if step else [])]
    errors = input_errors(folding, read, name, activations, arithmetics)
    fixed = step is not None and errors[-1] <= MAX_STEP_ERROR
    return Look(error=errors[1] if bits == INT4_BITS else errors[0], int8=errors[0], step=step if fixed else None)


def _even_step(folding: Folding, read: ReadTensor, name: str, activations: Activations) -> float | None:
    """The step that reaches all observed rows of an input, where one may be fixed."""
    if folding.stream is None or folding.architecture.input[name].norm is None:
        return None
    rows = folding.activations(read, name, activations.rows[name])
    return float(STEP_MARGIN * np.abs(rows).max() / INT8_MAX)


def is_good(error: float, bits: Bits = INT8_BITS) -> bool:
    """Whether a linear layer with this error may be stored with so many bits; NaN may not."""
    return error <= MAX_ERROR[bits]


def fold(
    read: ReadTensor, architecture: Architecture, activations: Activations, method: Method, inputs: Iterable[str]
) -> Folding:
    """The folds of a method, with scales for some inputs.

    Where the stream is rotated, the inputs behind norms are not smoothed: none of their channels stands out any more.
    """
    scales: dict[str, Channels] = {}
    if method.alpha is not None:
        sources = [architecture.input[name] for name in inputs]
        produced = [one for one in sources if one.producer is not None]
        scales = {one.name: _scales(read, architecture, activations, one, method.alpha) for one in produced}
        if not method.rotated:
            # The producers' rows must have been divided before their columns are looked at, or these would tell of c.
            divided = Folding(architecture, scales).reader(read)
            normed = [one for one in sources if one.name not in scales]
            scales |= {one.name: _scales(divided, architecture, activations, one, method.alpha) for one in normed}
    return Folding(
        architecture,
        scales,
        stream=make_rotation(architecture.dimension, SEED) if method.rotated else None,
        heads=make_rotation(architecture.attention.head_dim, SEED + 1) if method.heads else None,
    )


def _scales(
    read: ReadTensor, architecture: Architecture, activations: Activations, source: LinearInput, alpha: float
) -> Channels:
    largest, weights = activations.largest[source.name], largest_columns(read, source).astype(np.float64)
    if source.heads:
        largest, weights = share_among_heads(largest, architecture), share_among_heads(weights, architecture)
    return smoothing_scales(largest, weights, alpha)


def _spaced(architecture: Architecture) -> set[int]:
    """The layers that methods are compared on, evenly spaced, the first and the last among them."""
    layers = architecture.attention.num_hidden_layers
    count = min(layers, MAX_LAYERS, max(MIN_LAYERS, COMPARED_WEIGHTS // architecture.layer_weights))
    return {int(layer) for layer in np.linspace(0, layers - 1, count).round()}
