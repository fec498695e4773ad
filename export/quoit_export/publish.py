"""From an open checkpoint to a published artifact, all or nothing.

Variants are written into a hidden folder beside the output, measured, and recorded one by one in its
`partial.json`; an interrupted export that is run again goes on after the last recorded variant. Only when all
are measured is the manifest written and the folder renamed to its final name. This module does not know how a
graph is made (`graph`) or measured (`parity`).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import onnx_ir as ir
from filelock import FileLock, Timeout
from tqdm import tqdm

from quoit.artifact import (
    FORMAT,
    TOKENIZER,
    Artifact,
    FileRecord,
    Manifest,
    Parity,
    Precision,
    Variant,
    read_artifact,
    record_file,
    write_manifest,
)
from quoit.errors import ArtifactError
from quoit_export.checkpoint import MIN_MRL_DIM, Checkpoint
from quoit_export.errors import ExportError, ParityError
from quoit_export.graph import author_graph
from quoit_export.parity import FLOORS, Vectors, compare, passes, transformers_vectors, variant_vectors

GRAPH = "model.onnx"
PARTIAL = "partial.json"
PAGE = 4096
"""Tensors of at least a page start at a page, so that they can be mapped where they lie."""

SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class Request:
    """What to publish.

    Attributes:
        out: the artifact folder.
        precisions: the variants it shall have.
        verify: compare fp32 with transformers.
        keep_rejected: publish variants below their floor, marked so that the runtime refuses them.
        overwrite: replace what is in `out`, even if it is of another source.
    """

    out: Path
    precisions: tuple[Precision, ...]
    verify: bool = False
    keep_rejected: bool = False
    overwrite: bool = False


class Partial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """partial.json: what an export that has not ended yet has finished, and of which source."""

    created_by: str
    weights_sha256: str
    files: dict[Precision, tuple[FileRecord, ...]]


def publish(checkpoint: Checkpoint, request: Request) -> Artifact:
    """Exports a checkpoint into a folder that holds either a whole artifact or none.

    Variants of the same source that the folder already has are kept.

    Raises:
        ExportError: the folder holds something else, another export writes it, or the disk is too small.
        ParityError: a variant is below its floor, and `keep_rejected` was not asked for.
    """
    out = request.out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with _lock(out):
        kept = _kept_variants(checkpoint, request)
        missing = [precision for precision in request.precisions if precision not in kept]
        if not missing:
            return read_artifact(out)
        staging = Staging.open(out.with_name(f".{out.name}.partial"), checkpoint)
        # fp32 is what the others are measured against, wanted or not.
        needed: list[Precision] = ["fp32", *(p for p in missing if p != "fp32")]
        _check_disk(out, [_model(checkpoint, p) for p in needed if p not in staging.partial.files])
        for precision in needed:
            staging.write_variant(checkpoint, precision)
        manifest = staging.manifest(checkpoint, _measure(checkpoint, staging, needed, request))
        failed = [name for name in missing if not manifest.variants[name].accepted]
        if failed and not request.keep_rejected:
            staging.forget(failed)
            raise ParityError(_explain(failed, manifest))
        variants = kept | {name: manifest.variants[name] for name in missing}
        ordered: dict[Precision, Variant] = {name: variants[name] for name in FLOORS if name in variants}
        staging.publish(msgspec.structs.replace(manifest, variants=ordered), out, kept)
    return read_artifact(out)


def _explain(failed: list[Precision], manifest: Manifest) -> str:
    lines = [
        f"{name}: cosine to {parity.reference} is {parity.cosine_min:.5f} at least and {parity.cosine_mean:.5f} "
        f"on average, the floor is {parity.floor}"
        for name in failed
        for parity in manifest.variants[name].parity
        if not passes(parity)
    ]
    return (
        f"nothing was published, {'; '.join(lines)}. Leave out --precision {' '.join(failed)}, or look into it "
        "with --keep-rejected, which the runtime refuses to run"
    )


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    file = out.with_name(f".{out.name}.lock")
    try:
        with FileLock(file, timeout=0):
            yield
    except Timeout as error:
        raise ExportError(f"another export is writing {out}; wait for it, or name another folder") from error
    except PermissionError as error:
        raise ExportError(f"cannot write beside {out}: {error}; name a folder you may write to") from error
    file.unlink(missing_ok=True)


def _kept_variants(checkpoint: Checkpoint, request: Request) -> dict[Precision, Variant]:
    """The variants that the output folder already has and that stay."""
    out = request.out
    if request.overwrite or not out.exists():
        return {}
    if out.is_dir() and not any(out.iterdir()):
        return {}
    try:
        manifest = read_artifact(out).manifest
    except ArtifactError as error:
        raise ExportError(f"{out} holds something else ({error}); name another folder, or use --overwrite") from error
    if manifest.source.weights_sha256 != checkpoint.source.weights_sha256 or manifest.created_by != _creator():
        raise ExportError(
            f"{out} holds an artifact of {manifest.source.id} made by {manifest.created_by}; name another folder, "
            "or replace it with --overwrite"
        )
    return manifest.variants


def _creator() -> str:
    return f"quoit {version('quoit')}"


def _model(checkpoint: Checkpoint, precision: Precision) -> ir.Model:
    return author_graph(checkpoint.architecture, checkpoint.max_tokens, precision, checkpoint.tensor)


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
    checkpoint: Checkpoint, staging: "Staging", needed: list[Precision], request: Request
) -> dict[Precision, tuple[Parity, ...]]:
    """The parity of every variant; fp32 alone has none unless it is verified."""
    unmeasured: dict[Precision, tuple[Parity, ...]] = dict.fromkeys(needed, ())
    artifact = Artifact(staging.folder, staging.manifest(checkpoint, unmeasured))
    found: dict[Precision, tuple[Parity, ...]] = {}
    reference: Vectors = variant_vectors(artifact, "fp32")
    if request.verify:
        oracle = transformers_vectors(checkpoint, artifact)
        found["fp32"] = (compare(reference, oracle, "transformers fp32", FLOORS["fp32"]),)
    for precision in needed:
        if precision != "fp32":
            vectors = variant_vectors(artifact, precision)
            found[precision] = (compare(vectors, reference, "fp32", FLOORS[precision]),)
    return unmeasured | found


@dataclass
class Staging:
    """The hidden folder in which an artifact grows."""

    folder: Path
    partial: Partial

    @classmethod
    def open(cls, folder: Path, checkpoint: Checkpoint) -> "Staging":
        """Takes up the folder that an interrupted export of this source left, or makes a new one."""
        weights = checkpoint.source.weights_sha256
        fresh = Partial(_creator(), weights, {})
        try:
            found = msgspec.json.decode((folder / PARTIAL).read_bytes(), type=Partial)
        except (OSError, msgspec.MsgspecError):
            found = None
        if found is None or (found.created_by, found.weights_sha256) != (fresh.created_by, weights):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copyfile(checkpoint.tokenizer_file, folder / TOKENIZER)
            found = fresh
        staging = cls(folder, found)
        staging._record(found)
        return staging

    def write_variant(self, checkpoint: Checkpoint, precision: Precision) -> None:
        """Writes one variant, tensor by tensor, unless an earlier run finished it."""
        if precision in self.partial.files:
            return
        folder = self.folder / precision
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        model = _model(checkpoint, precision)
        with tqdm(desc=f"writing {precision}", unit=" tensors", disable=None) as bar:

            def advance(_: ir.TensorProtocol, info: ir.external_data.CallbackInfo) -> None:
                bar.total = info.total
                bar.update()

            ir.save(
                model,
                folder / GRAPH,
                external_data=f"{GRAPH}.data",
                callback=advance,
                max_workers=1,
                alignment=PAGE,
                align_threshold=PAGE,
            )
        records = tuple(record_file(self.folder, file) for file in sorted(folder.iterdir()))
        self._record(msgspec.structs.replace(self.partial, files={**self.partial.files, precision: records}))

    def forget(self, precisions: list[Precision]) -> None:
        """Drops variants, so that the next export writes them anew."""
        rest = {name: files for name, files in self.partial.files.items() if name not in precisions}
        self._record(msgspec.structs.replace(self.partial, files=rest))

    def manifest(self, checkpoint: Checkpoint, parity: dict[Precision, tuple[Parity, ...]]) -> Manifest:
        """The manifest of the variants in `parity`."""
        variants: dict[Precision, Variant] = {
            name: Variant(self.partial.files[name], measured, all(map(passes, measured)))
            for name, measured in parity.items()
        }
        return Manifest(
            format=FORMAT,
            created_by=_creator(),
            task=checkpoint.task,
            architecture=checkpoint.architecture,
            min_dim=min(MIN_MRL_DIM, checkpoint.architecture.hidden_size),
            max_tokens=checkpoint.max_tokens,
            prompts=checkpoint.prompts,
            end_token_id=checkpoint.end_token_id,
            tokenizer=record_file(self.folder, self.folder / TOKENIZER),
            source=checkpoint.source,
            variants=variants,
        )

    def publish(self, manifest: Manifest, out: Path, kept: dict[Precision, Variant]) -> None:
        """Writes the manifest and gives the folder its final name."""
        for variant in kept.values():
            for record in variant.files:
                target = self.folder / record.path
                target.parent.mkdir(exist_ok=True)
                target.unlink(missing_ok=True)
                os.link(out / record.path, target)
        for name in set(self.partial.files) - set(manifest.variants):
            shutil.rmtree(self.folder / name)
        write_manifest(self.folder, manifest)
        (self.folder / PARTIAL).unlink()
        if out.exists():
            old = out.with_name(f".{out.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
            self.folder.rename(out)
            shutil.rmtree(old)
        else:
            self.folder.rename(out)

    def _record(self, partial: Partial) -> None:
        """Replaces partial.json in one step."""
        draft = self.folder / f"{PARTIAL}.new"
        draft.write_bytes(msgspec.json.encode(partial))
        draft.replace(self.folder / PARTIAL)
        self.partial = partial
