"""Write variants into the staging folder, and measure them there against fp32.

One pass of fp32 gives its answers, and the inputs and outputs of its linear layers. It runs before fp16, int8 and int4
are made. fp32 need not be written for it. This module does not know which variants are wanted, nor what happens to
variants below their floor.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import onnx_ir as ir

from quoit.artifact import Artifact, GraphName, Manifest, Parity, Precision, Quantization, Scaling, Variant
from quoit.engine.planner import Batch
from quoit.errors import ComputeError
from quoit.ort.kernels import find_kernels
from quoit.ort.session import Answers
from quoit.text.tokenizer import Ids
from quoit_export.build.staging import Recipe, Staging, num_bytes, variant_model
from quoit_export.build.trials import Outcome, Trials
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.errors import ExportError, ParityError
from quoit_export.precisions.table import PRECISIONS, REFERENCE
from quoit_export.quantize.calibration import CalibrationTexts, Observed, calibration_rows, observe
from quoit_export.quantize.methods import BY_NAME, INT8_BITS, METHODS, UNROTATED, Bits, Method, rank_methods
from quoit_export.quantize.quant_search import Plan, examine
from quoit_export.quantize.scaling import Scaled, choose_scaling
from quoit_export.quantize.second_pass import Unevenness, with_second_pass
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
    snippets,
    transformers_answers,
)

MEASURED: tuple[GraphName, ...] = ("cpu", "saturating", "emulated")
"""Names of the graphs that a CPU can run without native kernels, which add theirs; parity is measured on these."""
SPARED = (0.25, 0.5)
"""Shares of the inputs whose layers get more bits, tried in this order while a variant is below its floor."""
SPARE_BYTES = 64 << 20
MAX_MEASURED = 64
"""Maximum number of calibration texts on which variants are also measured."""

Measured = dict[Precision, tuple[Parity, ...]]


def passes(parity: tuple[Parity, ...]) -> bool:
    """Return whether every measured parity reaches its floors."""
    return all(one.passes for one in parity)


def is_made_with(made: Quantization | Scaling | None, texts: CalibrationTexts) -> bool:
    """Return whether a variant was calibrated with these texts."""
    return made is not None and made.calibration.sha256 == texts.sha256


def with_variants(staging: Staging, measured: Measured) -> Manifest:
    """Return the manifest with the variants in `measured`."""
    partial = staging.partial
    variants: dict[Precision, Variant] = {
        name: msgspec.structs.replace(partial.variants[name], parity=parity, accepted=passes(parity))
        for name, parity in measured.items()
    }
    return msgspec.structs.replace(partial.bare, variants=variants)


@dataclass(frozen=True)
class Reference:
    """Answers of fp32, and what calibration observed.

    Attributes:
        questions: the samples that variants are measured on; all but the first are for quantized variants only.
        answers: the answers of fp32 to each of the samples.
        observed: what calibration observed; None if no variant has to be calibrated.
    """

    questions: list[Questions]
    answers: list[Answers]
    observed: Observed | None


@dataclass(frozen=True)
class Making:
    """Writes and measures the variants of one export.

    Attributes:
        checkpoint: the source of the tensors.
        staging: the folder that variants are written into.
        texts: the texts that calibrated variants are made with.
    """

    checkpoint: Checkpoint
    staging: Staging
    texts: CalibrationTexts

    def make(self, missing: list[Precision], *, verify: bool = False) -> Measured:
        """Write the variants that are not yet staged, and measure all of them.

        Quantized variants below their floor are written again, as `_retreat` says.

        Args:
            missing: the precisions to make.
            verify: True to compare fp32 with transformers, even if fp32 is not in `missing`.

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
                bits = PRECISIONS[name].bits
                if bits is None:
                    self._write(name, Scaled(choose_scaling(reference.observed), self.checkpoint.architecture))
                else:
                    self._quantize(name, bits, reference, reference.observed)
                self.staging.settle(name)
        measured = self._measure(reference, missing)
        if verify:
            measured[REFERENCE] = (*self._verify(reference), *measured.get(REFERENCE, ()))
        for name, spec in PRECISIONS.items():
            if spec.bits is not None and not passes(measured.get(name, ())):
                measured[name] = self._retreat(name, spec.bits, reference, measured[name])
        return measured

    def _quantize(
        self,
        precision: Precision,
        bits: Bits,
        reference: Reference,
        observed: Observed,
        methods: Sequence[Method] = METHODS,
    ) -> None:
        """Write an int8 or int4 variant by the method whose answers to the calibration texts are nearest to fp32's.

        The finalists of the ranking are written and tried in turn, until one is good enough. A predicted error is one
        of layers, and does not show what a few massive tokens do to a text's vector. int4 is written by the first.
        """
        ranking = rank_methods(observed, methods, bits)
        earlier: tuple[Outcome, Variant] | None = None
        for method in ranking.finalists:
            plan = examine(observed, method, ranking.errors, bits).plan()
            self._write(precision, plan)
            outcome = self._refine(precision, plan, reference)
            if outcome is None or outcome.good:
                return
            if earlier is not None and earlier[0].error < outcome.error:
                self.staging.take_back(precision, earlier[1])
            elif method != ranking.finalists[-1]:
                earlier = outcome, self.staging.set_aside(precision)

    def _retreat(
        self, precision: Precision, bits: Bits, reference: Reference, parity: tuple[Parity, ...]
    ) -> tuple[Parity, ...]:
        """Rewrite a variant below its floor until it passes.

        First it is unrotated; then, in int8, all rows take a second pass; then more layers get more bits. The predicted
        error is computed layer by layer. An error that all texts share shows only in the vectors.

        Args:
            precision: the precision of the variant.
            bits: the bits of its weights.
            reference: the answers of fp32.
            parity: the measured parity of the variant.

        Returns:
            The parity of the last variant that was written.
        """
        observed = reference.observed or self._observe()[0]
        made = self.staging.partial.variants[precision].quantization
        assert made is not None
        if BY_NAME[made.method].rotated:
            rotated = parity
            self._quantize(precision, bits, reference, observed, UNROTATED)
            self.staging.settle(precision)
            parity = self._measure(reference, [precision])[precision]
            if passes(parity):
                return parity
            written = self.staging.partial.variants[precision].quantization
            made = written if written is not None and parity[0].mean > rotated[0].mean else made
        examined = examine(observed, BY_NAME[made.method], made.errors, bits)
        plans = [examined.plan(spared) for spared in SPARED]
        if bits == INT8_BITS:
            plans = [with_second_pass(plan) for plan in (examined.plan(), *plans)]
        for plan in plans:
            self._write(precision, plan)
            self.staging.settle(precision)
            parity = self._measure(reference, [precision])[precision]
            if passes(parity):
                break
        return parity

    def _refine(self, precision: Precision, plan: Plan, reference: Reference) -> Outcome | None:
        """Give a written int8 variant the second passes that its answers to the calibration texts need."""
        if plan.bits != INT8_BITS or reference.observed is None:
            return None
        observed = reference.observed
        inputs = [name for name in observed.architecture.input if name not in plan.record.float32_layers]
        uneven = Unevenness.observe(plan.folding, observed.read, observed.activations, inputs)
        trials = Trials(
            self.checkpoint, self._artifact(), precision, plan, uneven, reference.questions[1], reference.answers[1]
        )
        outcome = trials.choose()
        if outcome.plan.record != plan.record:
            self.staging.rewrite_graphs(self.checkpoint, precision, outcome.plan)
        return outcome

    def _is_made(self, precision: Precision) -> bool:
        """Return whether a staged variant was calibrated with these texts, and nothing about it is left to choose."""
        partial = self.staging.partial
        variant = partial.variants.get(precision)
        return variant is not None and precision in partial.settled and is_made_with(variant.made, self.texts)

    def _refer(self, missing: list[Precision], *, calibrate: bool) -> Reference:
        """Run one pass of fp32 over the measured texts, and over the calibration texts if `calibrate` is set."""
        artifact = self._artifact()
        samples = [held_out()]
        if any(PRECISIONS[name].bits is not None for name in missing):
            samples.append(Sample("calibration", self.texts.texts[:MAX_MEASURED]))
            if artifact.manifest.task == "embedding":
                samples.append(snippets())
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
        """Return what calibration observes of fp32, and fp32's answers to other batches."""
        rows = calibration_rows(self._artifact(), self.texts)
        activations, found = observe(self._model(REFERENCE), self.checkpoint.architecture, rows, others)
        if not activations.finite:
            raise self._overflow(REFERENCE, rows)
        record = self.texts.record(rows)
        return Observed(self.checkpoint.tensor, self.checkpoint.architecture, activations, record), found

    def _write(self, precision: Precision, recipe: Recipe) -> None:
        """Write a variant by its recipe, and replace an existing one."""
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
        """Return the parity of every variant's graphs to the first graph of fp32."""
        measured: Measured = dict.fromkeys(missing, ())
        task = self.staging.partial.bare.task
        for precision in missing:
            for graph in self._graphs(precision):
                every = PRECISIONS[precision].bits is not None and graph == "cpu"
                questions = reference.questions if every else reference.questions[:1]
                given = self._answers(precision, questions, graph)
                for asked, found, expected in zip(questions, given, reference.answers, strict=False):
                    what = Comparison(precision, task, texts=asked.sample.name, graph=graph)
                    measured[precision] += compare(found, expected, what)
        return measured

    def _graphs(self, precision: Precision) -> list[GraphName]:
        """Return the names of a variant's graphs that this CPU can run, without the reference itself."""
        variant = self._artifact().variant(precision)
        names = [name for name in (*MEASURED, *find_kernels().graphs) if variant.graph(name) is not None]
        return names[1:] if precision == REFERENCE else names

    def _verify(self, reference: Reference) -> tuple[Parity, ...]:
        """Return the parity of fp32 to transformers."""
        oracle = transformers_answers(self.checkpoint, self._artifact(), reference.questions[0].sample)
        task = self.staging.partial.bare.task
        return compare(reference.answers[0], oracle, Comparison(REFERENCE, task, f"transformers {REFERENCE}"))

    def _answers(self, precision: Precision, questions: list[Questions], graph: GraphName) -> list[Answers]:
        """Return a variant's answers; if one is not finite, raise an error that names the layer."""
        try:
            return answer(self._artifact(), precision, questions, graph)
        except ComputeError as error:
            raise self._overflow(precision, [row for one in questions for row in one.rows]) from error

    def _overflow(self, precision: Precision, rows: Sequence[Ids]) -> ParityError:
        """Drop a variant whose values are not finite, and return the error that names the layer."""
        layer = first_nonfinite(self._model(precision), rows) or "the final norm"
        self.staging.forget([precision])
        return ParityError(
            f"nothing was published, {precision} gives values that are not finite, first in {layer}; use another "
            "precision, or a checkpoint that stays within float32"
        )

    def _model(self, precision: Precision) -> ir.Model:
        """Return a variant's graph: the written one if it is staged, else a newly authored one."""
        if precision in self.staging.partial.variants:
            return load_variant(self._artifact(), precision)
        return variant_model(self.checkpoint, precision)

    def _artifact(self) -> Artifact:
        """Return the staging folder as an artifact, without any parity."""
        staged = self.staging.partial.variants
        return Artifact(self.staging.folder, with_variants(self.staging, dict.fromkeys(staged, ())))
