"""Export an open checkpoint to a published artifact, all or nothing.

Variants are written into a hidden folder beside the output (`staging`), measured there (`variants`), and published
together. This module does not know how a variant is written or measured.
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import msgspec

from quoit.artifact import (
    MANIFEST,
    TOKENIZER,
    Artifact,
    Manifest,
    Parity,
    Precision,
    Variant,
    read_artifact,
)
from quoit.artifact.measurements import shortfalls
from quoit.errors import ArtifactError, shown
from quoit.files.atomic import locked, real_path, restore_folder
from quoit_export.build.staging import GRAPHS, TENSORS, Staging, bare_manifest, is_same
from quoit_export.build.variants import Making, is_made_with, passes, with_variants
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.errors import ExportError, ParityError
from quoit_export.precisions.table import PRECISIONS, REFERENCE
from quoit_export.quantize.calibration import CalibrationTexts, built_in_texts

VERIFYING = ("torch", "transformers")
OWN_FILES = {MANIFEST, TOKENIZER} | {
    f"{precision}/{name}" for precision in get_args(Precision) for name in (*GRAPHS.values(), TENSORS)
}
"""Paths of all files that an artifact of this format may have."""


@dataclass(frozen=True)
class Request:
    """Options of one export.

    Attributes:
        out: the artifact folder.
        precisions: the variants to write.
        verify: True to compare fp32 with transformers.
        keep_rejected: True to publish variants below their floor, marked so that the runtime refuses them.
        overwrite: True to replace the artifact in `out`, even if it is damaged or of another source.
        calibration: the texts that calibrated precisions are made with.
    """

    out: Path
    precisions: tuple[Precision, ...]
    verify: bool = False
    keep_rejected: bool = False
    overwrite: bool = False
    calibration: CalibrationTexts = field(default_factory=built_in_texts)

    def check(self) -> None:
        """Refuse an export that could not be written or verified, before any work is done for it.

        Raises:
            ExportError: `out` is the current folder, holds it, is a file, or holds something that is no part of an
                artifact; or `verify` needs a package that is not installed.
        """
        if self.verify:
            missing = [name for name in VERIFYING if find_spec(name) is None]
            if missing:
                raise ExportError(
                    f"--verify needs {' and '.join(missing)}; `pip install 'quoit[verify]'`, or leave out --verify"
                )
        out = real_path(self.out.absolute())
        if Path.cwd().resolve().is_relative_to(out.resolve()):
            raise ExportError(
                f"{self.out} is the current folder or holds it, and would be replaced; name another folder"
            )
        if out.exists() and not out.is_dir():
            raise ExportError(f"{out} is a file, and not an artifact's folder; name another folder")
        _check_replaceable(out)


def _check_replaceable(out: Path) -> None:
    """Refuse a folder that holds anything but an artifact, since a new artifact replaces the whole folder.

    Raises:
        ExportError: the folder holds a foreign file, which the message names, or has no manifest.
    """
    if not out.is_dir():
        return
    found = (entry for entry in out.rglob("*") if entry.is_symlink() or not entry.is_dir())
    names = [entry.relative_to(out).as_posix() for entry in found]
    foreign = next((name for name in names if name not in OWN_FILES), None)
    if foreign is not None:
        raise ExportError(
            f"{out} holds something else, {shown(foreign)}, which is no part of an artifact and would be lost; "
            "move it, or name another folder"
        )
    if names and MANIFEST not in names:
        raise ExportError(f"{out} has no {MANIFEST}, so it is no artifact to replace; empty it, or name another folder")


def publish(checkpoint: Checkpoint, request: Request) -> Artifact:
    """Export a checkpoint and return the artifact; the folder holds either a whole artifact or none.

    Variants of the same checkpoint that are already in the folder are kept.

    Raises:
        ExportError: the folder holds something else, another export writes it, or the disk is too small.
        ParityError: a variant is below its floor, and `keep_rejected` is False.
    """
    out = real_path(request.out.absolute())
    if checkpoint.folder.resolve().is_relative_to(out.resolve()):
        raise ExportError(f"{out} holds the checkpoint itself; name another folder")
    request.check()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{out.parent} cannot be made a folder: {error.strerror}; name another folder") from error
    bare = bare_manifest(checkpoint)
    with locked(out, ExportError):
        restore_folder(out)
        present = _present_variants(bare, request)
        kept = {name: variant for name, variant in present.items() if not _is_redone(name, variant, request)}
        wanted = [name for name in PRECISIONS if name in request.precisions or name in present]
        missing = [name for name in wanted if name not in kept]
        if not missing:
            return read_artifact(out)
        staging = Staging.open(Staging.place(out), checkpoint, bare)
        staging.adopt(out, kept)
        measured = Making(checkpoint, staging, request.calibration).make(missing, verify=request.verify)
        failed = [name for name, parity in measured.items() if not passes(parity)]
        if failed and not request.keep_rejected:
            staging.forget(failed)
            raise ParityError(_explain(failed, measured))
        manifest = with_variants(staging, {name: measured[name] for name in missing})
        variants = manifest.variants | kept
        ordered: dict[Precision, Variant] = {name: variants[name] for name in wanted}
        staging.publish(msgspec.structs.replace(manifest, variants=ordered), out)
    return read_artifact(out)


def _explain(failed: list[Precision], measured: dict[Precision, tuple[Parity, ...]]) -> str:
    missed = [f"{name}: {shortfalls(measured[name])}" for name in failed]
    return (
        f"nothing was published, {'; '.join(missed)}. Leave out --precision {' '.join(failed)}, or look into it "
        "with --keep-rejected, which the runtime refuses to run"
    )


def _present_variants(bare: Manifest, request: Request) -> dict[Precision, Variant]:
    """Return the variants of this checkpoint that the output folder already has.

    Raises:
        ExportError: the folder holds something else, is incomplete, or holds an artifact of another checkpoint.
    """
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
    """Return whether an existing variant is made again.

    It is when it still has to be verified, was rejected, or was calibrated with other texts.
    """
    verified = any(parity.reference != REFERENCE for parity in variant.parity)
    verify = request.verify and name == REFERENCE and not verified
    other = PRECISIONS[name].calibrated and not is_made_with(variant.made, request.calibration)
    rejected = not variant.accepted and not request.keep_rejected
    return verify or (name in request.precisions and (other or rejected))
