"""Read and write the manifest of an artifact's folder, and check the names, sizes and hashes of its files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from quoit.artifact.contracts import TASKS, SomeContract
from quoit.artifact.manifest import FORMAT, SEAL, FileRecord, Manifest, Variant, encode_manifest, sealed
from quoit.artifact.measurements import shortfalls
from quoit.artifact.names import Precision
from quoit.errors import ArtifactError, brief, shown

MANIFEST = "quoit.json"
TOKENIZER = "tokenizer.json"
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """A manifest and the folder it describes."""

    folder: Path
    manifest: Manifest

    def contract(self, kind: type[SomeContract]) -> SomeContract:
        """Return the artifact's contract, after a check that it is of the given kind.

        Raises:
            ArtifactError: the artifact is for another task.
        """
        found = self.manifest.contract
        if not isinstance(found, kind):
            task, server = TASKS[type(found)]
            raise ArtifactError(
                f"{self.folder} is made for {task}, and {TASKS[kind][0]} was asked for; open it with quoit.{server}, "
                "or name another artifact"
            )
        return found

    def variant(self, precision: Precision) -> Variant:
        """Return the variant of a precision.

        Raises:
            ArtifactError: the artifact lacks the variant, or export rejected it.
        """
        variant = self.manifest.variants.get(precision)
        if variant is None:
            have = ", ".join(self.manifest.variants)
            raise ArtifactError(
                f"{self.folder} has no {precision} variant (it has {have}); choose one of those, or add it "
                f"with `quoit-export CHECKPOINT {self.folder} --precision {precision}`"
            )
        if not variant.accepted:
            failed = shortfalls(variant.parity)
            others = ", ".join(self.accepted())
            remedy = f"use another precision of {others}" if others else "make a new export"
            raise ArtifactError(f"the {precision} variant of {self.folder} was rejected at export ({failed}); {remedy}")
        return variant

    def accepted(self) -> list[Precision]:
        """Return the precisions that passed their parity gate, in the manifest's order."""
        return [name for name, variant in self.manifest.variants.items() if variant.accepted]

    def place(self, record: FileRecord) -> Path:
        """Return the path of a file of the manifest, which need not exist.

        Raises:
            ArtifactError: the path leaves the folder.
        """
        inside = PurePosixPath(record.path)
        if inside.is_absolute() or ".." in inside.parts or "\\" in record.path or not inside.parts:
            raise ArtifactError(
                f"{self.folder / MANIFEST} names a file outside its folder, {shown(record.path)}; do not use this "
                "artifact"
            )
        return self.folder / inside

    def path(self, record: FileRecord) -> Path:
        """Return the path of a file of the manifest, after a check that the file exists and has the recorded size.

        Raises:
            ArtifactError: the path leaves the folder, or the file is missing or of another size.
        """
        path = self.place(record)
        if not is_file(path):
            raise ArtifactError(f"{path} is missing; export the artifact again")
        size = path.stat().st_size
        if size != record.bytes:
            raise ArtifactError(
                f"{path} has {size:,} bytes, {record.bytes:,} expected; copy or export the artifact again"
            )
        return path

    def verify(self, record: FileRecord) -> Path:
        """Return the path like `path`, after a check that the SHA-256 of the file is the recorded one.

        Raises:
            ArtifactError: see `path`, or the hash differs.
        """
        path = self.path(record)
        found = hash_file(path)
        if found != record.sha256:
            raise ArtifactError(
                f"{path} is damaged: its SHA-256 is {found[:12]}…, {record.sha256[:12]}… expected; copy or "
                "export the artifact again"
            )
        return path


def is_file(path: Path) -> bool:
    """Return whether a path leads to a file; False for a path that no file can have (too long, or with a null)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_file(folder: Path, path: Path) -> FileRecord:
    """Return the manifest's record of a file in `folder`."""
    return FileRecord(path.relative_to(folder).as_posix(), path.stat().st_size, hash_file(path))


def read_artifact(folder: str | Path) -> Artifact:
    """Read and check the manifest of an artifact folder; the large files are checked when they are used.

    Raises:
        ArtifactError: the folder or its manifest is missing, or the manifest is damaged or of another format.
    """
    folder = Path(folder)
    file = folder / MANIFEST
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder; make it with `quoit-export CHECKPOINT {folder}`")
    if not file.is_file():
        raise ArtifactError(
            f"{folder} has no {MANIFEST}, so it is no artifact; make one with `quoit-export {folder} OUT` if "
            "it is a checkpoint"
        )
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactError(f"{file} is larger than {MAX_MANIFEST_BYTES:,} bytes; export the artifact again")
    return Artifact(folder, _decode(file))


def _decode(file: Path) -> Manifest:
    """Read a manifest, and check its format and its seal.

    If the manifest has a field or a word that this version does not know, the seal decides: with a wrong seal the file
    is damaged, with a right one a newer quoit wrote it.

    Raises:
        ArtifactError: the file is damaged, of another format, or written by a newer quoit.
    """
    try:
        document = msgspec.json.decode(file.read_bytes())
        _check_format(document, file)
        found, expected = document.pop(SEAL, None), sealed(document)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} is damaged: {brief(error)}; export the artifact again") from error
    try:
        manifest = msgspec.convert(document, Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        if found != expected:
            raise ArtifactError(f"{file} is damaged: {brief(error)}; export the artifact again") from error
        raise ArtifactError(
            f"{file} says what this quoit does not know: {brief(error)}; it was written by "
            f"{brief(document.get('created_by'))}, upgrade with `pip install --upgrade quoit`"
        ) from error
    if found != expected:
        raise ArtifactError(
            f"{file} is damaged: its {SEAL} is {found!r:.14}, {expected[:12]}… expected of what it says; copy or "
            "export the artifact again"
        )
    return manifest


def _check_format(document: Any, file: Path) -> None:
    """Refuse a manifest of another format, before any other field is read.

    Raises:
        ArtifactError: the manifest has another format, or none.
    """
    version = document.get("format") if isinstance(document, dict) else None
    if version == FORMAT:
        return
    step = f"export the artifact again with `quoit-export CHECKPOINT {file.parent} --overwrite`"
    if type(version) is int and version > FORMAT:
        step = "upgrade with `pip install --upgrade quoit`"
    raise ArtifactError(f"{file} has format {shown(version)}, this quoit reads format {FORMAT}; {step}")


def open_artifact(artifact: str | Path | Artifact) -> Artifact:
    """Return the artifact in a folder; an `Artifact` is returned unchanged."""
    return artifact if isinstance(artifact, Artifact) else read_artifact(artifact)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write quoit.json into a folder, with its seal."""
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
