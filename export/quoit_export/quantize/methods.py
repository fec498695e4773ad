"""Compare the methods of folding by the rounding error that each leaves on calibration rows.

A method is a combination of folds (`folding`). For every method, the error of some layers' linear layers is computed as
the graph would make it (`quant_error`). This module does not know how activations are observed (`calibration`), nor
which linear layers are stored in which precision (`quant_search`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from tqdm import tqdm

from quoit_export.graph.architecture import Architecture, LinearInput
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.quantize.calibration import Activations, Observed
from quoit_export.quantize.folding import (
    Channels,
    Folding,
    make_rotation,
    share_among_heads,
    smoothing_scales,
)
from quoit_export.quantize.quant_error import (
    INT4_AT_FIRST_SIGHT,
    INT8_UNEVEN_TWICE,
    UNEVEN,
    Arithmetic,
    as_float16,
    input_error,
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
MAX_UNEVEN = 0.15
"""Maximum share of multiply-adds on uneven rows at which a method is taken, if there is one."""
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
class Ranking:
    """Methods by their errors.

    Attributes:
        methods: the methods, the best first.
        errors: the error of each method by its name, for the manifest.
    """

    methods: tuple[Method, ...]
    errors: dict[str, float]

    @property
    def finalists(self) -> tuple[Method, ...]:
        """The best method, and the best of those that rotate where it does not, or the other way round."""
        best = self.methods[0]
        return best, *[one for one in self.methods if one.rotated != best.rotated][:1]


def rank_methods(observed: Observed, methods: Iterable[Method] = METHODS, bits: Bits = INT8_BITS) -> Ranking:
    """Return the methods for an observed decoder, the best first.

    The best method has the most inputs whose linear layers are good enough, then few uneven rows, which a second pass
    would cost time, and among such methods the smallest predicted error.

    Args:
        observed: the decoder and its observed activations.
        methods: the methods to choose from.
        bits: the bits of the weights.
    """
    read, architecture, activations = observed.read, observed.architecture, observed.activations
    compared = compared_inputs(architecture)
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
    first = _first_of_nearly_equal(ranks)
    rest = sorted((method for method in ranks if method != first), key=lambda method: ranks[method])
    return Ranking((first, *rest), errors)


def compared_inputs(architecture: Architecture) -> list[str]:
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
