"""Variants, written into the staging folder and measured there against fp32.

What fp32 answers, and what its linear layers read and give, is found in one pass before fp16, int8 and int4 are made;
for that fp32 need not be written. This module does not know which variants are wanted, nor what becomes of those below
their floor.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import onnx_ir as ir

from quoit.artifact import Artifact, GraphName, Manifest, Parity, Precision, Quantization, Scaling, Variant
from quoit.engine.planner import Batch
from quoit.errors import ComputeError
from quoit.ort.session import Answers
from quoit.text.tokenizer import Ids
from quoit_export.build.staging import Recipe, Staging, num_bytes, variant_model
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.errors import ExportError, ParityError
from quoit_export.precisions.table import PRECISIONS, REFERENCE
from quoit_export.quantize.calibration import CalibrationTexts, Observed, calibration_rows, observe
from quoit_export.quantize.quant_search import BY_NAME, UNROTATED, Bits, Plan, choose, examine
from quoit_export.quantize.scaling import Scaled, choose_scaling
from quoit_export.verify.layerwise import answers
from quoit_export.verify.overflow import first_nonfinite
from quoit_export.verify.parity import (
    Comparison,
    Questions,
    Sample,
    answer,
    batches_of,
    collect,
    compare,
    held_out,
    load_variant,
    transformers_answers,
)

MEASURED: tuple[GraphName, ...] = ("cpu", "saturating", "emulated")
"""Graphs that a CPU can run."""
SPARED = (0.25, 0.5)
"""Shares of the inputs whose layers are stored in more bits, in this order, where a variant is below its floor."""
SPARE_BYTES = 64 << 20
MAX_MEASURED = 64
"""Of the calibration texts, so many are measured on too."""

Measured = dict[Precision, tuple[Parity, ...]]


def passes(parity: tuple[Parity, ...]) -> bool:
    """Whether everything that was measured reaches its floors."""
    return all(one.passes for one in parity)


def is_made_with(made: Quantization | Scaling | None, texts: CalibrationTexts) -> bool:
    """Whether a variant was made with these texts."""
    return made is not None and made.calibration.sha256 == texts.sha256


def with_variants(staging: Staging, measured: Measured) -> Manifest:
    """The manifest with the variants in `measured`."""
    partial = staging.partial
    variants: dict[Precision, Variant] = {
        name: msgspec.structs.replace(partial.variants[name], parity=parity, accepted=passes(parity))
        for name, parity in measured.items()
    }
    return msgspec.structs.replace(partial.bare, variants=variants)


def plan_of(precision: Precision, observed: Observed) -> Recipe:
    """How a calibrated variant is to be made."""
    bits = PRECISIONS[precision].bits
    if bits is None:
        return Scaled(choose_scaling(observed), observed.architecture)
    return choose(observed, bits=bits)


@dataclass(frozen=True)
class Reference:
    """What fp32 gives.

    Attributes:
        questions: the texts that variants are measured on; all but the first concern quantized variants alone.
        answers: to each of them.
        observed: where a variant is made as calibration tells, what that saw.
    """

    questions: list[Questions]
    answers: list[Answers]
    observed: Observed | None


@dataclass(frozen=True)
class Making:
    """The variants of one export, in the making.

    Attributes:
        checkpoint: what they are made of.
        staging: where they grow.
        texts: what calibrated variants are made with.
    """

    checkpoint: Checkpoint
    staging: Staging
    texts: CalibrationTexts

    def make(self, missing: list[Precision], *, verify: bool = False) -> Measured:
        """Writes variants, as far as they are not there, and measures them.

        Quantized variants that turn out worse than was predicted are written again, as `_retreat` says.

        Args:
            missing: which.
            verify: compare fp32 with transformers, even if it is none of them.

        Raises:
            ExportError: the disk is too small.
            ParityError: a variant gives values that are not finite.
        """
        staged = self.staging.partial.variants
        self._check_disk([variant_model(self.checkpoint, name) for name in missing if name not in staged])
        for name in missing:
            if not PRECISIONS[name].calibrated:
                self.staging.write_variant(self.checkpoint, name)
        unmade = [name for name in missing if PRECISIONS[name].calibrated and not self._is_made(name)]
        reference = self._refer(missing, calibrate=bool(unmade))
        if reference.observed is not None:
            for name in unmade:
                self._write(name, plan_of(name, reference.observed))
        measured = self._measure(reference, missing)
        if verify:
            measured[REFERENCE] = self._verify(reference)
        for name, spec in PRECISIONS.items():
            if spec.bits is not None and not passes(measured.get(name, ())):
                measured[name] = self._retreat(name, spec.bits, reference, measured[name])
        return measured

    def _retreat(
        self, precision: Precision, bits: Bits, reference: Reference, parity: tuple[Parity, ...]
    ) -> tuple[Parity, ...]:
        """Writes a variant that is below its floor again until it is not: unrotated, then with more layers spared.

        The prediction is made of layers one by one; what all texts err in together shows only in the vectors.

        Args:
            precision: which variant.
            bits: of its weights.
            reference: what fp32 answers.
            parity: what was measured of it.

        Returns:
            What was measured of the last that was written.
        """
        observed = reference.observed or self._observe()[0]
        made = self.staging.partial.variants[precision].quantization
        assert made is not None
        if BY_NAME[made.method].rotated:
            plan = choose(observed, UNROTATED, bits)
            rotated, parity = parity, self._attempt(precision, plan, reference)
            if passes(parity):
                return parity
            made = plan.record if parity[0].mean > rotated[0].mean else made
        examined = examine(observed, BY_NAME[made.method], made.errors, bits)
        for spared in SPARED:
            parity = self._attempt(precision, examined.plan(spared), reference)
            if passes(parity):
                break
        return parity

    def _attempt(self, precision: Precision, plan: Plan, reference: Reference) -> tuple[Parity, ...]:
        """What is measured of a variant made as planned."""
        self._write(precision, plan)
        return self._measure(reference, [precision])[precision]

    def _is_made(self, precision: Precision) -> bool:
        """Whether a variant is there that was made with these texts."""
        variant = self.staging.partial.variants.get(precision)
        return variant is not None and is_made_with(variant.made, self.texts)

    def _refer(self, missing: list[Precision], *, calibrate: bool) -> Reference:
        """One pass of fp32: over what variants are measured on, and if asked for over what they are made with."""
        artifact = self._artifact()
        samples = [held_out()]
        if any(PRECISIONS[name].bits is not None for name in missing):
            samples.append(Sample("calibration", self.texts.texts[:MAX_MEASURED]))
        questions = [Questions.plan(artifact, sample) for sample in samples]
        observed = None
        if calibrate:
            observed, found = self._observe(batches_of(questions))
        else:
            found = answers(self._model(REFERENCE), batches_of(questions), f"running {REFERENCE}")
        try:
            return Reference(questions, collect(questions, found, artifact.manifest.task), observed)
        except ComputeError as error:
            raise self._overflow(REFERENCE, [row for one in questions for row in one.rows]) from error

    def _observe(self, others: Sequence[Batch] = ()) -> tuple[Observed, list[Answers]]:
        """What calibration sees of fp32, and fp32's answers to other batches."""
        rows = calibration_rows(self._artifact(), self.texts)
        activations, found = observe(self._model(REFERENCE), self.checkpoint.architecture, rows, others)
        if not activations.finite:
            raise self._overflow(REFERENCE, rows)
        record = self.texts.record(rows)
        return Observed(self.checkpoint.tensor, self.checkpoint.architecture, activations, record), found

    def _write(self, precision: Precision, recipe: Recipe) -> None:
        """Writes a variant by its recipe, in place of one that is there."""
        self.staging.forget([precision])
        self._check_disk([variant_model(self.checkpoint, precision, recipe)])
        self.staging.write_variant(self.checkpoint, precision, recipe)

    def _check_disk(self, models: list[ir.Model]) -> None:
        folder = self.staging.folder.parent
        needed = sum(map(num_bytes, models)) + SPARE_BYTES
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ExportError(
                f"{folder} has {free:,} bytes free, this export needs {needed:,}; free some, or name a folder on "
                "a larger disk"
            )

    def _measure(self, reference: Reference, missing: list[Precision]) -> Measured:
        """The parity of every variant to fp32, which has none itself."""
        measured: Measured = dict.fromkeys(missing, ())
        task = self.staging.partial.bare.task
        for precision in missing:
            if precision == REFERENCE:
                continue
            for graph in self._graphs(precision):
                every = PRECISIONS[precision].bits is not None and graph == "cpu"
                questions = reference.questions if every else reference.questions[:1]
                given = self._answers(precision, questions, graph)
                for asked, found, expected in zip(questions, given, reference.answers, strict=False):
                    what = Comparison(precision, task, texts=asked.sample.name, graph=graph)
                    measured[precision] += compare(found, expected, what)
        return measured

    def _graphs(self, precision: Precision) -> list[GraphName]:
        """A variant's graphs that a CPU can run."""
        variant = self._artifact().variant(precision)
        return [name for name in MEASURED if variant.graph(name) is not None]

    def _verify(self, reference: Reference) -> tuple[Parity, ...]:
        """The parity of fp32 to transformers."""
        oracle = transformers_answers(self.checkpoint, self._artifact(), reference.questions[0].sample)
        task = self.staging.partial.bare.task
        return compare(reference.answers[0], oracle, Comparison(REFERENCE, task, f"transformers {REFERENCE}"))

    def _answers(self, precision: Precision, questions: list[Questions], graph: GraphName) -> list[Answers]:
        """A variant's answers; where one is not finite, the error names the layer."""
        try:
            return answer(self._artifact(), precision, questions, graph)
        except ComputeError as error:
            raise self._overflow(precision, [row for one in questions for row in one.rows]) from error

    def _overflow(self, precision: Precision, rows: Sequence[Ids]) -> ParityError:
        """The error of a variant whose values are not finite, which is forgotten."""
        layer = first_nonfinite(self._model(precision), rows) or "the final norm"
        self.staging.forget([precision])
        return ParityError(
            f"nothing was published, {precision} gives values that are not finite, first in {layer}; use another "
            "precision, or a checkpoint that stays within float32"
        )

    def _model(self, precision: Precision) -> ir.Model:
        """A variant's graph: as it was written, or else as it would be."""
        if precision in self.staging.partial.variants:
            return load_variant(self._artifact(), precision)
        return variant_model(self.checkpoint, precision)

    def _artifact(self) -> Artifact:
        """The artifact that the staging folder would be if nothing were measured."""
        staged = self.staging.partial.variants
        return Artifact(self.staging.folder, with_variants(self.staging, dict.fromkeys(staged, ())))
