"""Choose the folds of an int8 or int4 variant: those with the smallest rounding error on calibration rows.

For every method, the error of each linear layer is computed as the graph would make it (`quant_error`). A layer that is
not good enough for int4 with the chosen folds is stored as in int8. A layer that is not good enough for int8 takes a
second pass (`int8`), and stays in float32 where that does not help.

Behind the norms of a rotated stream all rows are alike: they have the same length, and no channel stands out. There
one step for all rows is tried, so that the graph need not compute each row's largest magnitude. This module does not
know how activations are observed (`calibration`), nor how the folds change the tensors (`folding`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Literal

import msgspec
import numpy as np
from tqdm import tqdm

from quoit.artifact import Quantization
from quoit_export.graph.architecture import Architecture, LinearInput
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.precisions.int4 import Int4Encoding
from quoit_export.precisions.int8 import ALL_ROWS, INT8_MAX, Int8Encoding, RoundWeight
from quoit_export.quantize.calibration import Activations, Observed
from quoit_export.quantize.error_feedback import ErrorFeedback
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
    INT8_TWICE,
    INT8_UNEVEN_TWICE,
    UNEVEN,
    Arithmetic,
    as_float16,
    as_int8,
    in_steps,
    input_error,
    input_errors,
    largest_columns,
    peak_ratios,
    table_error,
)

SEED = 20_230
"""Random seed of rotations; any other seed does as well, see bench/log/."""
ALPHAS = (0.4, 0.5, 0.65)
MAX_LAYERS = 8
MIN_LAYERS = 3
COMPARED_WEIGHTS = 600_000_000
"""Approximate number of weights, within MIN_LAYERS and MAX_LAYERS layers, on which methods are compared.

The chosen method is then examined in all layers. The 0.6B shape is compared on 8 layers, 4B on 5 and 8B on 3; see
bench/log/."""
Bits = Literal[8, 4]
INT8_BITS: Bits = 8
INT4_BITS: Bits = 4
MAX_ERROR: dict[Bits, float] = {8: 0.01, 4: 0.02}
"""Maximum squared error of a linear layer relative to its output, by bits.

A layer above it is stored in more bits: int8 instead of int4, float32 instead of int8."""
COMPARED_AS: dict[Bits, Arithmetic] = {8: INT8_UNEVEN_TWICE, 4: INT4_AT_FIRST_SIGHT}
NEARLY = 1.05
"""Maximum ratio to the smallest error at which a rotated method is preferred, since it allows fixed steps."""
STEP_MARGIN = 1.1
"""Ratio of a fixed step's range to the largest magnitude of the observed rows; larger values are clipped."""
MAX_UNEVEN = 0.15
"""Maximum share of multiply-adds on uneven rows at which a method is taken, if there is one."""
MAX_STEP_ERROR = 0.0005
"""Maximum error at which a fixed step is used."""
MAX_TABLE_ERROR = 0.0002
"""Maximum added error at which the token table is stored in int8."""
DIGITS = 4


@dataclass(frozen=True)
class Method:
    """A combination of folds."""

    alpha: float | None = None
    rotated: bool = False
    heads: bool = False

    @property
    def name(self) -> str:
        """Name of the method in the manifest."""
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
"""Methods to compare, the simplest first; among equals the first is taken."""
BY_NAME = {method.name: method for method in METHODS}
UNROTATED = tuple(method for method in METHODS if not method.rotated)
"""Methods that remain if a rotated variant turned out worse than predicted."""


@dataclass(frozen=True)
class Plan:
    """Folds, manifest record and bits of an int8 or int4 variant."""

    folding: Folding
    record: Quantization
    bits: Bits = INT8_BITS
    round_weight: RoundWeight | None = None

    @property
    def encoding(self) -> Int8Encoding | Int4Encoding:
        """Encoding of the folded tensors."""
        record = self.record
        int8 = Int8Encoding(
            float32_layers=frozenset(record.float32_layers),
            steps=record.steps,
            int8_table=record.int8_table,
            second_pass=record.second_pass,
            narrow_second_pass=record.narrow_second_pass,
            round_weight=self.round_weight,
        )
        return int8 if self.bits == INT8_BITS else Int4Encoding(int8, frozenset(record.int8_layers))


def choose(observed: Observed, methods: Iterable[Method] = METHODS, bits: Bits = INT8_BITS) -> Plan:
    """Return the plan of the best method for an observed decoder.

    The best method has the most inputs whose linear layers are good enough, then few uneven rows, which a second pass
    would cost time, and among such methods the smallest predicted error.

    Args:
        observed: the decoder and its observed activations.
        methods: the methods to choose from.
        bits: the bits of the weights.
    """
    read, architecture, activations = observed.read, observed.architecture, observed.activations
    compared = _compared(architecture)
    errors: dict[str, float] = {}
    ranks: dict[Method, tuple[int, bool, float]] = {}
    tables: dict[bool, float] = {}
    for method in tqdm(list(methods), desc="choosing", unit=" methods", disable=None):
        folding = fold(read, architecture, activations, method, compared)
        if method.rotated not in tables:
            tables[method.rotated] = table_error(folding, read, compared, as_float16)
        linears = [input_error(folding, read, name, activations, COMPARED_AS[bits]) for name in compared]
        good = [error for error in linears if is_good(error, bits)]
        errors[method.name] = float(f"{np.mean(linears) + tables[method.rotated]:.{DIGITS}g}")
        dear = bits == INT8_BITS and _uneven_share(folding, read, compared, activations) > MAX_UNEVEN
        ranks[method] = len(linears) - len(good), dear, sum(good) / len(linears) + tables[method.rotated]
    return examine(observed, _first_of_nearly_equal(ranks), errors, bits).plan()


@dataclass(frozen=True)
class Look:
    """Predicted errors of an input.

    Attributes:
        error: the error of its linear layers in the wanted bits.
        int8: the error of its linear layers in int8.
        uneven_twice: the same if uneven rows take a second pass.
        twice: the same if all rows take a second pass.
        threshold: the ratio of an uneven row's largest magnitude to its length.
        step: the fixed step for all rows; None if no step may be fixed.
    """

    error: float
    int8: float
    uneven_twice: float
    twice: float
    threshold: float
    step: float | None

    @property
    def second_pass(self) -> float | None:
        """Threshold of the rows that need a second pass for int8 to be good enough; None if no row does."""
        if is_good(self.int8):
            return None
        return self.threshold if is_good(self.uneven_twice) else ALL_ROWS


@dataclass(frozen=True)
class Examined:
    """A method with its folds and the predicted errors of every input; a plan needs nothing else.

    Attributes:
        observed: the decoder and its observed activations.
        method: the method.
        folding: the folds of the method.
        errors: the errors of the compared methods, by name, for the manifest.
        bits: the bits of the weights.
        looks: the predicted errors of each input.
        int8_table: True if the token table may be int8.
    """

    observed: Observed
    method: Method
    folding: Folding
    errors: dict[str, float]
    bits: Bits
    looks: dict[str, Look]
    int8_table: bool

    def plan(self, spared: float = 0.0) -> Plan:
        """Return the plan that says how each linear layer is stored.

        Args:
            spared: minimum share of the inputs whose linear layers are stored in more than `bits`; the inputs with the
                largest errors come first.
        """
        settled, method, inputs = self._settle(spared), self.method, self.observed.architecture.input
        record = Quantization(
            method=method.name,
            alpha=method.alpha,
            seed=SEED if method.rotated or method.heads else None,
            float32_layers=tuple(linear for name in settled.float32_layers for linear in inputs[name].linears),
            int8_layers=tuple(linear for name in settled.int8_layers for linear in inputs[name].linears),
            steps=settled.steps,
            second_pass=settled.second_pass,
            narrow_second_pass=settled.second_pass,
            int8_table=self.int8_table,
            calibration=self.observed.calibration,
            errors=self.errors,
        )
        if self.bits != INT8_BITS:
            return Plan(self.folding, record, self.bits)
        observed = self.observed
        feedback = ErrorFeedback(self.folding, observed.read, observed.activations)
        return Plan(self.folding, msgspec.structs.replace(record, error_feedback=True), self.bits, feedback)

    def _error(self, look: Look) -> float:
        """Return the error that more bits would mend: of int8, what two passes leave."""
        return look.twice if self.bits == INT8_BITS else look.error

    def _settle(self, spared: float) -> "Settled":
        better = {name for name, look in self.looks.items() if not is_good(self._error(look), self.bits)}
        count = math.ceil(spared * len(self.looks))
        better.update(nlargest(count, self.looks, key=lambda name: (name in better, self._error(self.looks[name]))))
        settled = Settled()
        for name, look in self.looks.items():
            if self.bits == INT4_BITS and name not in better:
                continue
            if not is_good(look.twice) or (self.bits == INT8_BITS and name in better):
                settled.float32_layers.append(name)
                continue
            if self.bits == INT4_BITS:
                settled.int8_layers.append(name)
            if look.second_pass is not None:
                settled.second_pass[name] = look.second_pass
            elif look.step:
                settled.steps[name] = look.step
        return settled


def examine(observed: Observed, method: Method, errors: dict[str, float], bits: Bits = INT8_BITS) -> Examined:
    """Examine every input of the decoder, folded by one method; the arguments are attributes of `Examined`."""
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
    """Return the names of the inputs that methods are compared on."""
    layers = _spaced(architecture)
    return [one.name for one in architecture.inputs if one.layer in layers]


def _first_of_nearly_equal(ranks: dict[Method, tuple[int, bool, float]]) -> Method:
    """Return the best method: the fewest inputs that are not good enough, few uneven rows, then the smallest error.

    A rotated method is preferred if its error is at most NEARLY times the smallest.
    """
    floats, dear, least = min(ranks.values())
    near = [method for method, (*first, error) in ranks.items() if first == [floats, dear] and error <= NEARLY * least]
    return min(near or ranks, key=lambda method: (not method.rotated, ranks[method]))


def _uneven_share(folding: Folding, read: ReadTensor, inputs: Sequence[str], activations: Activations) -> float:
    """Return the share of the inputs' multiply-adds that are on uneven rows."""
    architecture, total, uneven = folding.architecture, 0, 0.0
    for name in inputs:
        rows = folding.activations(read, name, activations.sample(name))
        size = architecture.input_weights(architecture.input[name])
        total += size
        uneven += size * float(np.mean(peak_ratios(rows) > UNEVEN))
    return uneven / total


@dataclass(frozen=True)
class Settled:
    """Storage of the inputs' linear layers.

    Attributes:
        float32_layers: names of the inputs whose linear layers stay in float32.
        int8_layers: names of the inputs whose linear layers are stored in int8 instead of int4.
        steps: the fixed steps by input.
        second_pass: the thresholds of inputs whose rows need a second pass.
    """

    float32_layers: list[str] = field(default_factory=list)
    int8_layers: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    second_pass: dict[str, float] = field(default_factory=dict)


def _look(folding: Folding, read: ReadTensor, name: str, activations: Activations, bits: Bits) -> Look:
    step = _even_step(folding, read, name, activations)
    arithmetics = [INT8, INT8_UNEVEN_TWICE, INT8_TWICE, *([INT4] if bits == INT4_BITS else [])]
    arithmetics += [in_steps(step)] if step else []
    errors = input_errors(folding, read, name, activations, arithmetics)
    int8, uneven_twice, twice = errors[:3]
    return Look(
        error=errors[3] if bits == INT4_BITS else int8,
        int8=int8,
        uneven_twice=uneven_twice,
        twice=twice,
        threshold=UNEVEN / math.sqrt(folding.architecture.linear_shape(name)[1]),
        step=step if step is not None and errors[-1] <= MAX_STEP_ERROR else None,
    )


def _even_step(folding: Folding, read: ReadTensor, name: str, activations: Activations) -> float | None:
    """Return the step whose range covers all observed rows of an input; None if no step may be fixed."""
    if folding.stream is None or folding.architecture.input[name].norm is None:
        return None
    rows = folding.activations(read, name, activations.rows[name])
    return float(STEP_MARGIN * np.abs(rows).max() / INT8_MAX)


def is_good(error: float, bits: Bits = INT8_BITS) -> bool:
    """Return whether a linear layer with this error may be stored with this number of bits; False for NaN."""
    return error <= MAX_ERROR[bits]


def fold(
    read: ReadTensor, architecture: Architecture, activations: Activations, method: Method, inputs: Iterable[str]
) -> Folding:
    """Return the folds of a method, with scales for the given inputs.

    If the stream is rotated, the inputs behind norms are not smoothed: none of their channels stands out any more.
    """
    scales: dict[str, Channels] = {}
    if method.alpha is not None:
        sources = [architecture.input[name] for name in inputs]
        produced = [one for one in sources if one.producer is not None]
        scales = {one.name: _scales(read, architecture, activations, one, method.alpha) for one in produced}
        if not method.rotated:
            # Divide the producers' rows before reading their columns. Otherwise a channel that is c times larger (see
            # `smoothing_scales`) would affect the scales of the inputs behind norms.
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
    """Return the layers that methods are compared on, evenly spaced, with the first and the last among them."""
    layers = architecture.attention.num_hidden_layers
    count = min(layers, MAX_LAYERS, max(MIN_LAYERS, COMPARED_WEIGHTS // architecture.layer_weights))
    return {int(layer) for layer in np.linspace(0, layers - 1, count).round()}
