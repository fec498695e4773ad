"""Try settings of an int8 variant's second passes on the calibration texts, and choose one; see `second_pass`.

The trial graph has the tensors of the written variant, so that weights are rounded once for all settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import onnx_ir as ir

from quoit.artifact import Artifact, GraphName, Measure, Precision
from quoit.engine.layouts.packed import make_inputs
from quoit.engine.pooling import normalize
from quoit.ort.session import Answers
from quoit_export.build.staging import GRAPH, share_tensors, variant_model
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.graph.targets import CPU, SATURATING, Target
from quoit_export.precisions.int8 import ALL_ROWS
from quoit_export.precisions.table import PRECISIONS
from quoit_export.quantize.quant_error import UNEVEN
from quoit_export.quantize.quant_search import Plan
from quoit_export.quantize.second_pass import (
    BUDGETS,
    NARROW_UNEVEN,
    Errors,
    Thresholds,
    Unevenness,
    lowest,
    open_thresholds,
    rank,
    trial_inputs,
    with_all_rows,
)
from quoit_export.verify.layerwise import answers_to
from quoit_export.verify.parity import Comparison, Questions, compare

WORST_TEXTS = 8
"""Number of texts on which inputs are ranked: those that err most."""
TARGETS: dict[GraphName, Target] = {"cpu": CPU, "saturating": SATURATING}


@dataclass(frozen=True)
class Outcome:
    """Second passes that were chosen for a variant, and what they reach.

    Attributes:
        plan: the plan with them.
        error: the squared distance of the answers from those of fp32, over all calibration texts.
        good: True if the answers are as good as is wanted.
    """

    plan: Plan
    error: float
    good: bool


@dataclass(frozen=True)
class Trials:
    """Trials of one written variant.

    Attributes:
        checkpoint: the source of the tensors.
        artifact: the staged artifact, which holds the variant.
        precision: the precision of the variant.
        plan: the plan that it was written by.
        uneven: the unevenness of the inputs that may have second passes.
        questions: the calibration texts or pairs.
        expected: the answers of fp32 to them.
    """

    checkpoint: Checkpoint
    artifact: Artifact
    precision: Precision
    plan: Plan
    uneven: Unevenness
    questions: Questions
    expected: Answers

    def choose(self) -> Outcome:
        """Return the plan with the second passes that the answers need."""
        (wide, error, good), narrow = self._choose_wide(), {}
        if "saturating" in PRECISIONS[self.precision].graphs:
            narrow = self._choose_narrow(wide)
        return Outcome(self.with_passes(wide, narrow), error, good)

    def with_passes(self, wide: Thresholds, narrow: Thresholds) -> Plan:
        """Return the plan with the given thresholds, in the order of the inputs.

        With any there are no fixed steps: the trial graph has none, and a massive row would be clipped in one.
        """
        cost = self.uneven.cost(wide)
        record = msgspec.structs.replace(
            self.plan.record,
            second_pass=self._ordered(wide),
            narrow_second_pass=self._ordered(narrow),
            second_pass_cost=round(cost, 4),
            steps={} if wide else self.plan.record.steps,
        )
        return replace(self.plan, record=record)

    def _ordered(self, thresholds: Thresholds) -> Thresholds:
        return {name: thresholds[name] for name in self.checkpoint.architecture.input if name in thresholds}

    def _choose_wide(self) -> tuple[Thresholds, float, bool]:
        """Return the thresholds for 8 bits, the error of the answers, and whether they are good enough."""
        spec, architecture = PRECISIONS[self.precision], self.checkpoint.architecture
        needed = self.plan.record.second_pass
        uneven = self.uneven.thresholds(architecture, UNEVEN) | needed
        trial, expected = _Trial.open(self, "cpu"), self._expected_rows
        for setting in _distinct([needed, uneven]):
            (twice,) = trial.answer([setting], self.questions)
            if self._is_good(twice, "cpu", spec.goals):
                return setting, float(_errors(twice, expected).sum()), True
        worst = sorted(np.argsort(-_errors(twice, expected))[:WORST_TEXTS].tolist())
        some = self.questions.part(self.artifact, worst)

        def attempt(settings: Sequence[Thresholds]) -> list[Errors]:
            return [_errors(found, expected[worst]) for found in trial.answer(settings, some)]

        ranked = rank(uneven, self.uneven, attempt)
        settings = _distinct([with_all_rows(uneven, ranked, self.uneven, budget) for budget in BUDGETS])
        found = trial.answer(settings, self.questions)
        errors = [float(_errors(answers, expected).sum()) for answers in (twice, *found)]
        for setting, answers, error in zip(settings, found, errors[1:], strict=True):
            if self._is_good(answers, "cpu", spec.goals):
                return setting, error, True
        best = int(np.argmin(errors))
        return [uneven, *settings][best], errors[best], False

    def _choose_narrow(self, wide: Thresholds) -> Thresholds:
        """Return the thresholds for activations of 7 bits: those for 8 bits, more uneven rows, or all rows."""
        goals, architecture = PRECISIONS[self.precision].narrow_goals, self.checkpoint.architecture
        lower = (self.uneven.thresholds(architecture, ratio) for ratio in NARROW_UNEVEN)
        trial = _Trial.open(self, "saturating")
        for setting in _distinct([wide, *(lowest(wide, some) for some in lower)]):
            (answers,) = trial.answer([setting], self.questions)
            if self._is_good(answers, "saturating", goals):
                return setting
        return dict.fromkeys(self.uneven.ratios, ALL_ROWS)

    def _is_good(self, answers: Answers, graph: GraphName, goals: Mapping[Measure, tuple[float, float]]) -> bool:
        task = self.artifact.manifest.task
        what = Comparison(self.precision, task, texts=self.questions.sample.name, graph=graph)
        found = compare(self.questions.shape(answers, task), self.expected, what)
        return all(
            one.mean >= goals[one.measure][0] and one.minimum >= goals[one.measure][1]
            for one in found
            if one.measure in goals
        )

    @property
    def _expected_rows(self) -> Answers:
        """The expected answers row by row: unit vectors [n, hidden], or logits [n]."""
        return self.expected if self.artifact.manifest.task == "embedding" else self.expected.ravel()


def _errors(found: Answers, expected: Answers) -> Errors:
    """Return the squared distance of each answer from the expected one, [n]."""
    distance = (found.astype(np.float64) - expected) ** 2
    errors: Errors = distance.reshape(len(found), -1).sum(axis=1)
    return errors


def _distinct(settings: Sequence[Thresholds]) -> list[Thresholds]:
    """Return the settings without those that equal an earlier one."""
    return [setting for number, setting in enumerate(settings) if setting not in settings[:number]]


@dataclass(frozen=True)
class _Trial:
    """A trial graph, and the inputs of linear layers that have a threshold in it."""

    model: ir.Model
    inputs: list[str]
    task: str

    @classmethod
    def open(cls, trials: Trials, graph: GraphName) -> "_Trial":
        everywhere = dict.fromkeys(trials.uneven.ratios, 1.0)
        plan = trials.with_passes(everywhere, everywhere)
        model = variant_model(trials.checkpoint, trials.precision, plan, TARGETS[graph])
        share_tensors(model, trials.artifact.folder / trials.precision / GRAPH)
        return cls(model, open_thresholds(model), trials.artifact.manifest.task)

    def answer(self, settings: Sequence[Thresholds], questions: Questions) -> list[Answers]:
        """Return the answers under each setting, row by row: unit vectors [n, hidden], or logits [n]."""
        feeds = [
            make_inputs(batch) | trial_inputs(setting, self.inputs)
            for setting in settings
            for batch in questions.batches
        ]
        found, count = answers_to(self.model, feeds, "trying second passes"), len(questions.batches)
        arranged = [questions.arrange(found[start : start + count]) for start in range(0, len(feeds), count)]
        return [normalize(one) for one in arranged] if self.task == "embedding" else arranged
