"""From an open checkpoint to a published artifact, all or nothing.

Variants are written into a hidden folder beside the output (`staging`), measured there, and published together.
This module does not know how a graph is made (`graph`) or measured (`parity`).
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec
import onnx_ir as ir

from quoit.artifact import (
    Artifact,
    Calibration,
    Manifest,
    Parity,
    Precision,
    Quantization,
    Scaling,
    Variant,
    read_artifact,
)
from quoit.errors import ArtifactError, ComputeError
from quoit.tokens import Ids
from quoit.writers import locked
from quoit_export.calibration import Activations, CalibrationTexts, built_in_texts, calibration_rows, observe
from quoit_export.checkpoint import Checkpoint
from quoit_export.choice import METHODS, UNROTATED, Method, choose
from quoit_export.diagnosis import first_nonfinite
from quoit_export.errors import ExportError, ParityError
from quoit_export.parity import (
    FLOORS,
    Answers,
    Comparison,
    Sample,
    compare,
    held_out,
    parity_rows,
    transformers_answers,
    variant_answers,
)
from quoit_export.scaling import Scaled, choose_scaling
from quoit_export.staging import GRAPH, Staging, bare_manifest, is_same, restore, variant_model

Observed = tuple[Activations, Calibration]
"""What calibration saw, and on what."""
CALIBRATED: tuple[Precision, ...] = ("fp16", "int8")
"""Variants that are made as calibration tells."""
SPARE_BYTES = 64 << 20
MOST_MEASURED = 64
"""Of the calibration texts, so many are measured on too."""


@dataclass(frozen=True)
class Request:
    """What to publish.

    Attributes:
        out: the artifact folder.
        precisions: the variants it shall have.
        verify: compare fp32 with transformers.
        keep_rejected: publish variants below their floor, marked so that the runtime refuses them.
        overwrite: replace what is in `out`, even if it is of another source.
        calibration: the texts that int8 and fp16 are made with.
    """

    out: Path
    precisions: tuple[Precision, ...]
    verify: bool = False
    keep_rejected: bool = False
    overwrite: bool = False
    calibration: CalibrationTexts = field(default_factory=built_in_texts)


def publish(checkpoint: Checkpoint, request: Request) -> Artifact:
    """Exports a checkpoint into a folder that holds either a whole artifact or none.

    Variants that the folder already has of the same checkpoint are kept.

    Raises:
        ExportError: the folder holds something else, another export writes it, or the disk is too small.
        ParityError: a variant is below its floor, and `keep_rejected` was not asked for.
    """
    out = request.out.absolute()
    if checkpoint.folder.resolve().is_relative_to(out.resolve()):
        raise ExportError(f"{out} holds the checkpoint itself; name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    bare = bare_manifest(checkpoint)
    with locked(out, ExportError):
        restore(out)
        present = _present_variants(bare, request)
        kept = {name: variant for name, variant in present.items() if not _is_redone(name, variant, request)}
        wanted = [name for name in FLOORS if name in request.precisions or name in present]
        missing = [name for name in wanted if name not in kept]
        if not missing:
            return read_artifact(out)
        staging = Staging.open(out.with_name(f".{out.name}.partial"), checkpoint, bare)
        staging.adopt(out, kept)
        # fp32 is what the others are measured against, wanted or not.
        needed: list[Precision] = ["fp32", *(name for name in missing if name != "fp32")]
        _check_disk(out, [variant_model(checkpoint, name) for name in needed if name not in staging.partial.files])
        manifest = _make(checkpoint, staging, needed, request)
        failed = [name for name in needed if not manifest.variants[name].accepted]
        if failed and not request.keep_rejected:
            staging.forget(failed)
            raise ParityError(_explain(failed, manifest))
        variants = manifest.variants | kept
        ordered: dict[Precision, Variant] = {name: variants[name] for name in wanted}
        staging.publish(msgspec.structs.replace(manifest, variants=ordered), out)
    return read_artifact(out)


def _make(checkpoint: Checkpoint, staging: Staging, needed: list[Precision], request: Request) -> Manifest:
    """Writes and measures variants; int8 again without rotations where one turns out worse than was predicted."""
    observed = cache(lambda: _observe(staging, request))
    for name in needed:
        if name not in CALIBRATED:
            staging.write_variant(checkpoint, name)
        elif not _is_made_with(staging.partial.made(name), request):
            staging.forget([name])
            _write_calibrated(checkpoint, staging, name, observed())
    manifest = _with_variants(staging, _measure(checkpoint, staging, needed, request))
    if _is_rotated_in_vain(manifest):
        # The prediction is made of layers one by one; what all texts err in together shows only here.
        staging.forget(["int8"])
        _write_calibrated(checkpoint, staging, "int8", observed(), UNROTATED)
        manifest = _with_variants(staging, _measure(checkpoint, staging, needed, request))
    return manifest


def _with_variants(staging: Staging, measured: dict[Precision, tuple[Parity, ...]]) -> Manifest:
    """The manifest with the variants in `measured`."""
    partial = staging.partial
    variants: dict[Precision, Variant] = {
        name: Variant(
            partial.files[name],
            parity,
            all(one.passes for one in parity),
            partial.quantization if name == "int8" else None,
            partial.scaling if name == "fp16" else None,
        )
        for name, parity in measured.items()
    }
    return msgspec.structs.replace(partial.bare, variants=variants)


def _explain(failed: list[Precision], manifest: Manifest) -> str:
    lines = [
        f"{name}: {parity.measure} to {parity.reference} on {parity.texts} texts is {parity.least:.5f} at least and "
        f"{parity.mean:.5f} on average, {_floors(parity)}"
        for name in failed
        for parity in manifest.variants[name].parity
        if not parity.passes
    ]
    return (
        f"nothing was published, {'; '.join(lines)}. Leave out --precision {' '.join(failed)}, or look into it "
        "with --keep-rejected, which the runtime refuses to run"
    )


def _floors(parity: Parity) -> str:
    mean = "" if parity.mean_floor is None else f", of the mean {parity.mean_floor}"
    return f"the floor is {parity.floor}{mean}"


def _present_variants(bare: Manifest, request: Request) -> dict[Precision, Variant]:
    """The variants that the output folder already has, of this checkpoint."""
    out = request.out
    if request.overwrite or not out.exists():
        return {}
    if out.is_dir() and not any(out.iterdir()):
        return {}
    try:
        artifact = read_artifact(out)
    except ArtifactError as error:
        raise ExportError(f"{out} holds something else ({error}); name another folder, or use --overwrite") from error
    manifest = artifact.manifest
    try:
        for record in manifest.records():
            artifact.path(record)
    except ArtifactError as error:
        raise ExportError(f"{out} is incomplete ({error}); name another folder, or use --overwrite") from error
    if not is_same(manifest, bare):
        raise ExportError(
            f"{out} holds an artifact of {manifest.source.id} made by {manifest.created_by}, and not of this "
            "checkpoint; name another folder, or replace it with --overwrite"
        )
    return manifest.variants


def _is_redone(name: Precision, variant: Variant, request: Request) -> bool:
    """Whether a variant that is there is written again: to be verified, since it was rejected, or made otherwise."""
    verify = request.verify and name == "fp32" and not variant.parity
    other = name in CALIBRATED and not _is_made_with(variant.made, request)
    rejected = not variant.accepted and not request.keep_rejected
    return verify or (name in request.precisions and (other or rejected))


def _is_made_with(made: Quantization | Scaling | None, request: Request) -> bool:
    """Whether a variant was made with the texts that are asked for."""
    return made is not None and made.calibration.sha256 == request.calibration.sha256


def _is_rotated_in_vain(manifest: Manifest) -> bool:
    """Whether an int8 variant whose stream was rotated is below its floor."""
    variant = manifest.variants.get("int8")
    if variant is None or variant.accepted or variant.quantization is None:
        return False
    return variant.quantization.method not in {method.name for method in UNROTATED}


def _observe(staging: Staging, request: Request) -> Observed:
    """What the values of the staged fp32 variant are on the calibration texts."""
    texts = request.calibration
    artifact = Artifact(staging.folder, _with_variants(staging, {"fp32": ()}))
    rows = calibration_rows(artifact, texts)
    activations = observe(_graph(artifact, "fp32"), rows)
    if not activations.finite:
        raise _overflow(staging, artifact, "fp32", rows)
    return activations, Calibration(texts.source, texts.sha256, len(rows), sum(map(len, rows)))


def _write_calibrated(
    checkpoint: Checkpoint,
    staging: Staging,
    precision: Precision,
    observed: Observed,
    methods: tuple[Method, ...] = METHODS,
) -> None:
    """Writes fp16 or int8 as what was observed tells."""
    read, numbers = checkpoint.tensor, checkpoint.architecture
    if precision == "fp16":
        staging.write_variant(checkpoint, precision, Scaled(choose_scaling(read, numbers, *observed)))
        return
    plan = choose(read, numbers, *observed, methods)
    _check_disk(staging.folder, [variant_model(checkpoint, precision, plan)])
    staging.write_variant(checkpoint, precision, plan)


def _check_disk(out: Path, models: list[ir.Model]) -> None:
    tensors = (value.const_value for model in models for value in model.graph.initializers.values())
    needed = sum(tensor.nbytes for tensor in tensors if tensor is not None) + SPARE_BYTES
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise ExportError(
            f"{out.parent} has {free:,} bytes free, this export needs {needed:,}; free some, or name a folder on "
            "a larger disk"
        )


def _measure(
    checkpoint: Checkpoint, staging: Staging, needed: list[Precision], request: Request
) -> dict[Precision, tuple[Parity, ...]]:
    """The parity of every variant; fp32 alone has none unless it is verified."""
    found: dict[Precision, tuple[Parity, ...]] = dict.fromkeys(needed, ())
    artifact = Artifact(staging.folder, _with_variants(staging, found))
    task = artifact.manifest.task
    samples = [held_out()]
    if "int8" in needed:
        samples.append(Sample("calibration", request.calibration.texts[:MOST_MEASURED]))
    for sample in samples:
        reference = _answers(staging, artifact, "fp32", sample)
        if request.verify and sample is samples[0]:
            oracle = transformers_answers(checkpoint, artifact, sample)
            found["fp32"] = compare(reference, oracle, Comparison("fp32", task, "transformers fp32"))
        for precision in needed:
            if precision == "int8" or (precision != "fp32" and sample is samples[0]):
                answers = _answers(staging, artifact, precision, sample)
                found[precision] += compare(answers, reference, Comparison(precision, task, texts=sample.name))
    return found


def _answers(staging: Staging, artifact: Artifact, precision: Precision, sample: Sample) -> Answers:
    """A variant's answers; where one is not finite, the error names the layer."""
    try:
        return variant_answers(artifact, precision, sample)
    except ComputeError as error:
        raise _overflow(staging, artifact, precision, parity_rows(artifact, sample)) from error


def _overflow(staging: Staging, artifact: Artifact, precision: Precision, rows: Sequence[Ids]) -> ParityError:
    """The error of a variant whose values are not finite, which is forgotten."""
    layer = first_nonfinite(_graph(artifact, precision), rows) or "the final norm"
    staging.forget([precision])
    return ParityError(
        f"nothing was published, {precision} gives values that are not finite, first in {layer}; use another "
        "precision, or a checkpoint that stays within float32"
    )


def _graph(artifact: Artifact, precision: Precision) -> Path:
    record = next(file for file in artifact.manifest.variants[precision].files if file.path.endswith(GRAPH))
    return artifact.path(record)
