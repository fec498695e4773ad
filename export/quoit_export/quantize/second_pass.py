"""Find the inputs whose rows take a second pass, by what that does to the answers on calibration texts.

A predicted error of a layer does not show what a few massive tokens do to a text's vector. So every choice is measured
at the end of the model, in a trial graph whose thresholds are inputs: one pass of the graph tries many settings.

| step | what takes a second pass                                     | taken                                      |
|------|--------------------------------------------------------------|--------------------------------------------|
| 0    | nothing                                                      | if the answers are good enough             |
| 1    | uneven rows                                                  | if the answers are good enough             |
| 2    | all rows of the inputs that gain most for their cost as well | if they are good enough, or the best so far |
| 3    | all rows of all inputs                                       | by `build.variants`, below a floor         |

A row is uneven if its largest magnitude is more than UNEVEN times its root mean square; see `quant_error`. This module
does not know how a graph multiplies, nor what is good enough.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit_export.graph.architecture import Architecture
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.precisions.int8 import ALL_ROWS, THRESHOLD
from quoit_export.quantize.calibration import Activations
from quoit_export.quantize.folding import Folding
from quoit_export.quantize.quant_error import peak_ratios
from quoit_export.quantize.quant_search import Plan

NARROW_UNEVEN = (9.0, 6.0)
"""Ratios of uneven rows for activations of 7 bits, tried in this order."""
NO_ROWS = np.inf
"""Threshold in a trial that no row reaches."""
EVERY_ROW = -1.0
"""Threshold in a trial that every row reaches."""
BUDGETS = (0.02, 0.05, 0.1)
"""Shares of the model's multiply-adds that step 2 may add."""

Thresholds = dict[str, float]


@dataclass(frozen=True)
class Unevenness:
    """How uneven the observed rows of every input are.

    Attributes:
        ratios: the ratio of the largest magnitude to the length of each observed row, by input.
        costs: the share of the model's multiply-adds behind each input, if all inputs had as many rows.
    """

    ratios: dict[str, NDArray[np.float32]]
    costs: dict[str, float]

    @classmethod
    def observe(
        cls, folding: Folding, read: ReadTensor, activations: Activations, inputs: Iterable[str]
    ) -> "Unevenness":
        """Return the unevenness of a folded model's inputs."""
        ratios = {}
        for name in inputs:
            rows = folding.activations(read, name, activations.rows[name])
            ratios[name] = peak_ratios(rows) / np.float32(np.sqrt(rows.shape[1]))
        return cls(ratios, multiply_adds(folding.architecture))

    def thresholds(self, architecture: Architecture, ratio: float) -> Thresholds:
        """Return thresholds for the inputs that have uneven rows.

        Args:
            architecture: the architecture, which says how wide the inputs are.
            ratio: the ratio of a row's largest magnitude to its root mean square above which it is uneven.
        """
        found = {name: ratio / float(np.sqrt(architecture.linear_shape(name)[1])) for name in self.ratios}
        return {name: limit for name, limit in found.items() if (self.ratios[name] > limit).any()}

    def cost(self, thresholds: Mapping[str, float]) -> float:
        """Return the multiply-adds of second passes on the observed rows, as a share of the model's."""
        return float(sum(self.costs[name] * self.share(name, limit) for name, limit in thresholds.items()))

    def share(self, name: str, limit: float) -> float:
        """Return the share of an input's observed rows above a threshold."""
        return float(np.mean(self.ratios[name] > limit)) if limit > ALL_ROWS else 1.0


def with_second_pass(plan: Plan) -> Plan:
    """Return a plan whose int8 layers multiply all rows twice."""
    architecture, record = plan.folding.architecture, plan.record
    costs = multiply_adds(architecture)
    everywhere = {
        name: ALL_ROWS for name, one in architecture.input.items() if not set(one.linears) & set(record.float32_layers)
    }
    cost = round(sum(costs[name] for name in everywhere), 4)
    passes = {"second_pass": everywhere, "narrow_second_pass": everywhere, "second_pass_cost": cost, "steps": {}}
    return replace(plan, record=msgspec.structs.replace(record, **passes))


def multiply_adds(architecture: Architecture) -> dict[str, float]:
    """Return the share of the linear layers' multiply-adds behind each input.

    An input that exists for the answering tokens alone has next to none.
    """
    sizes = {one.name: 0 if one.of_answers else architecture.input_weights(one) for one in architecture.inputs}
    total = sum(sizes.values())
    return {name: size / total for name, size in sizes.items()}


def open_thresholds(model: ir.Model) -> list[str]:
    """Make the thresholds of a graph inputs of the graph, and return the names of the linear layers' inputs."""
    graph = model.graph
    names = [name for name in graph.initializers if name.endswith(THRESHOLD)]
    for name in names:
        value = graph.initializers.pop(name)
        value.const_value, value.type, value.shape = None, ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        graph.inputs.append(value)
    return [name.removesuffix(THRESHOLD) for name in names]


def trial_inputs(setting: Mapping[str, float], inputs: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Return the graph inputs of a trial; inputs without a threshold have no second pass."""
    limits = {name: setting.get(name, NO_ROWS) for name in inputs}
    return {
        f"{name}{THRESHOLD}": np.array(EVERY_ROW if limit == ALL_ROWS else limit, np.float32)
        for name, limit in limits.items()
    }


Errors = NDArray[np.float64]
Try = Callable[[Sequence[Thresholds]], list[Errors]]
"""Function that returns the error of every sample under each of several settings."""


def rank(base: Thresholds, uneven: Unevenness, attempt: Try) -> list[str]:
    """Return the inputs whose rows may all take a second pass, those that gain most for their cost first.

    Args:
        base: the thresholds that stay as they are for the other inputs.
        uneven: the unevenness of the inputs.
        attempt: function that returns errors; see `Try`.
    """
    names = [name for name in uneven.ratios if base.get(name) != ALL_ROWS]
    before, *after = (float(np.sum(errors)) for errors in attempt([base, *(base | {name: ALL_ROWS} for name in names)]))
    smallest = min((cost for cost in uneven.costs.values() if cost > 0), default=1.0)
    gains = {
        name: (before - error) / max(uneven.costs[name], smallest / 10)
        for name, error in zip(names, after, strict=True)
        if error < before
    }
    return sorted(gains, key=lambda name: -gains[name])


def lowest(some: Thresholds, others: Thresholds) -> Thresholds:
    """Return the thresholds of both, and the lower one where both have one."""
    return {name: min(some.get(name, NO_ROWS), others.get(name, NO_ROWS)) for name in some | others}


def with_all_rows(base: Thresholds, ranked: Sequence[str], uneven: Unevenness, budget: float) -> Thresholds:
    """Return thresholds that give all rows of the first inputs of a ranking a second pass, within a budget."""
    found, spent = dict(base), 0.0
    for name in ranked:
        cost = uneven.costs[name] - uneven.cost({name: base[name]} if name in base else {})
        if spent + cost <= budget:
            found[name] = ALL_ROWS
            spent += cost
    return found
