"""Choose how each linear layer of an int8 or int4 variant is stored, by its rounding error on calibration rows.

A layer that is not good enough for int4 with the folds of a method (`methods`) is stored as in int8. A layer that is
not good enough for int8 takes a second pass (`int8`), and stays in float32 where that does not help.

Behind the norms of a rotated stream all rows are alike: they have the same length, and no channel stands out. There
one step for all rows is tried, so that the graph need not compute each row's largest magnitude. This module does not
know how activations are observed (`calibration`), nor how the folds change the tensors (`folding`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nlargest

import msgspec
import numpy as np
from tqdm import tqdm

from quoit.artifact import Quantization
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.precisions.int4 import Int4Encoding
from quoit_export.precisions.int8 import ALL_ROWS, INT8_MAX, Int8Encoding, RoundWeight
from quoit_export.quantize.calibration import Activations, Observed
from quoit_export.quantize.error_feedback import ErrorFeedback
from quoit_export.quantize.folding import Folding
from quoit_export.quantize.methods import (
    INT4_BITS,
    INT8_BITS,
    METHODS,
    SEED,
    Bits,
    Method,
    compared_inputs,
    fold,
    is_good,
    rank_methods,
)
from quoit_export.quantize.quant_error import (
    INT4,
    INT8,
    INT8_TWICE,
    INT8_UNEVEN_TWICE,
    UNEVEN,
    as_int8,
    in_steps,
    input_errors,
    table_error,
)

STEP_MARGIN = 1.1
"""Ratio of a fixed step's range to the largest magnitude of the observed rows; larger values are clipped."""
MAX_STEP_ERROR = 0.0005
"""Maximum error at which a fixed step is used."""
MAX_TABLE_ERROR = 0.0002
"""Maximum added error at which the token table is stored in int8."""


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
    """Return the plan of the best method for an observed decoder, as `rank_methods` predicts; it has the arguments."""
    ranking = rank_methods(observed, methods, bits)
    return examine(observed, ranking.methods[0], ranking.errors, bits).plan()


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
    table = table_error(folding, read, compared_inputs(architecture), as_int8)
    return Examined(observed, method, folding, errors, bits, looks, table <= MAX_TABLE_ERROR)


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
