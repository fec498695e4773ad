"""Write an artifact into a hidden folder, and give the folder its final name once the artifact is complete.

Finished variants are recorded one by one in `partial.json`. An interrupted export that is run again continues after
the last recorded variant. This module does not know which variants are good enough.
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
from tqdm import tqdm

from quoit.artifact import (
    FORMAT,
    MANIFEST,
    TOKENIZER,
    FileRecord,
    Graph,
    GraphName,
    Manifest,
    Precision,
    Variant,
    hash_file,
    record_file,
    write_manifest,
)
from quoit.files.atomic import explain_full_disk, hidden_path, new_folder, remove, replace_folder, replacing
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.errors import ExportError
from quoit_export.graph.architecture import Architecture
from quoit_export.graph.model import Tensors, author_graph
from quoit_export.graph.targets import (
    CUDA,
    HALF_ON_CPU,
    NATIVE,
    NATIVE_ATTENTION,
    SATURATING,
    WEIGHT_ONLY,
    WEIGHT_ONLY_ON_CPU,
    Target,
    cpu_target,
)
from quoit_export.precisions.int8 import INTEGER_PRODUCT
from quoit_export.precisions.native import MAX_HEAD_DIM, MULTIPLE
from quoit_export.precisions.table import PRECISIONS, PrecisionSpec
from quoit_export.quantize.quant_search import Plan
from quoit_export.quantize.scaling import Scaled

GRAPHS: dict[GraphName, str] = {
    "cpu": "model.onnx",
    "cuda": "model.cuda.onnx",
    "emulated": "model.emulated.onnx",
    "saturating": "model.saturating.onnx",
    "native": "model.native.onnx",
    "native_attention": "model.native_attention.onnx",
}
"""File name of each graph of a variant."""
GRAPH = GRAPHS["cpu"]
TENSORS = f"{GRAPH}.data"
"""File name of a variant's tensors."""
Recipe = Plan | Scaled
"""Result of calibration for a variant: the folds of int8 and int4, or the powers of two of fp16."""
KIND = "partial"
"""Suffix of the hidden folder."""
PARTIAL = "partial.json"
GOES_ON = "make room there, and the same command goes on"
PAGE = 4096
"""Alignment in bytes of tensors of at least this size, so that they can be memory-mapped in place."""


class Partial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of partial.json: the source and the finished variants of an unfinished export.

    Attributes:
        bare: the manifest without its variants.
        variants: the variants that are written. They are not measured yet, and so not accepted.
        settled: the calibrated variants among them about which nothing is left to choose.
    """

    bare: Manifest
    variants: dict[Precision, Variant]
    settled: tuple[Precision, ...] = ()


def bare_manifest(checkpoint: Checkpoint) -> Manifest:
    """Return the manifest of this checkpoint's artifact, without its variants.

    Two checkpoints with equal bare manifests give the same artifact. So the bare manifest tells whether earlier work
    can be continued.
    """
    file, architecture = checkpoint.tokenizer_file, checkpoint.architecture
    return Manifest(
        format=FORMAT,
        created_by=f"quoit {version('quoit')}",
        contract=checkpoint.contract,
        dimension=architecture.dimension,
        pooling="last",
        max_tokens=checkpoint.max_tokens,
        vocab_size=architecture.vocab_size,
        costs=architecture.costs,
        family=architecture.family,
        tokenizer=FileRecord(TOKENIZER, file.stat().st_size, hash_file(file)),
        source=checkpoint.source,
        variants={},
    )


def is_same(found: Manifest, bare: Manifest) -> bool:
    """Return whether two manifests describe the same artifact, wherever the weights were fetched from."""
    source = msgspec.structs.replace(found.source, id=bare.source.id, revision=bare.source.revision)
    return msgspec.structs.replace(found, source=source, variants={}) == bare


def variant_model(
    checkpoint: Checkpoint, precision: Precision, recipe: Recipe | None = None, target: Target | None = None
) -> ir.Model:
    """Return the graph of one variant; its tensors are computed only when they are written.

    Args:
        checkpoint: the source of the tensors.
        precision: the precision in which tensors are stored.
        recipe: the result of calibration; None stores the tensors as they are.
        target: the target of the graph; by default the CPU.
    """
    read, score = checkpoint.tensor, None if checkpoint.score_tensor is None else checkpoint.score_weight
    encoding, tensors = PRECISIONS[precision].encoding, Tensors(read, score)
    if isinstance(recipe, Scaled):
        tensors = Tensors(recipe.reader(read), score, stream_scale=recipe.stream_scale)
    elif recipe is not None:
        folding, encoding = recipe.folding, recipe.encoding
        tensors = Tensors(
            read=folding.reader(read),
            score=None if score is None else lambda: folding.score(read, score()),
            output=None if folding.stream is None else lambda: folding.output(read),
        )
    return author_graph(checkpoint.architecture, checkpoint.max_tokens, encoding, tensors, target)


def other_targets(model: ir.Model, spec: PrecisionSpec, architecture: Architecture) -> dict[GraphName, Target]:
    """Return the targets of a variant's graphs besides the first one.

    A graph for CPUs whose sums saturate, or with native products, is made if the variant has integer products.
    """
    targets: dict[GraphName, Target] = {
        "cuda": WEIGHT_ONLY if spec.weight_only else CUDA,
        "emulated": WEIGHT_ONLY_ON_CPU if spec.weight_only else HALF_ON_CPU,
        "saturating": SATURATING,
        "native": NATIVE,
        "native_attention": NATIVE_ATTENTION,
    }
    left_out: set[GraphName] = set()
    if not any(node.op_type == INTEGER_PRODUCT for node in model.graph):
        left_out |= {"saturating", "native"}
    if not fits_kernels(architecture):
        left_out |= {"native", "native_attention"}
    return {name: targets[name] for name in spec.graphs if name not in left_out}


def fits_kernels(architecture: Architecture) -> bool:
    """Return whether the native kernels take an architecture's sizes."""
    head_dim = architecture.attention.head_dim
    widths = [architecture.linear_shape(one.name)[1] for one in architecture.inputs]
    return head_dim <= MAX_HEAD_DIM and not any(size % MULTIPLE for size in (head_dim, *widths))


def share_tensors(model: ir.Model, written: Path) -> None:
    """Replace a graph's tensors by those of the same names that the graph `written` in the same folder stores."""
    stored = ir.load(written).graph.initializers
    for name, value in model.graph.initializers.items():
        if name in stored and isinstance(stored[name].const_value, ir.ExternalTensor):
            value.const_value = stored[name].const_value


@contextmanager
def _writing(folder: Path, draft: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the system's write errors into an ExportError that names the folder.

    Args:
        folder: the folder that is written into.
        draft: the largest of the files that are written.
        needed: size of that file in bytes, or None if it is unknown.

    Raises:
        ExportError: the disk is full, or the folder cannot be written.
    """
    try:
        with explain_full_disk(folder, draft, needed, refusal=ExportError, step=GOES_ON):
            yield
    except OSError as error:
        raise ExportError(f"cannot write {folder}: {error.strerror or error}; name another folder") from error


@dataclass
class Staging:
    """Hidden folder of an artifact that is not yet published.

    Attributes:
        folder: path of the folder.
        partial: content of its partial.json.
    """

    folder: Path
    partial: Partial

    @staticmethod
    def place(out: Path) -> Path:
        """Return the path of an artifact folder's hidden folder."""
        return hidden_path(out, KIND)

    @classmethod
    def open(cls, folder: Path, checkpoint: Checkpoint, bare: Manifest) -> "Staging":
        """Open the folder that an interrupted export of the same artifact left, or make a new one.

        Raises:
            ExportError: the folder cannot be written, or the disk is full.
        """
        try:
            found = msgspec.json.decode((folder / PARTIAL).read_bytes(), type=Partial)
        except (OSError, msgspec.MsgspecError):
            found = None
        if found is not None and is_same(found.bare, bare):
            staging = cls(folder, found)
            staging._record(msgspec.structs.replace(found, bare=bare))
            return staging
        with _writing(folder, folder), new_folder(folder):
            with _writing(folder, folder / TOKENIZER, bare.tokenizer.bytes):
                shutil.copyfile(checkpoint.tokenizer_file, folder / TOKENIZER)
            staging = cls(folder, Partial(bare, {}))
            staging._record(staging.partial)
        return staging

    def adopt(self, out: Path, kept: dict[Precision, Variant]) -> None:
        """Link the kept variants from the published folder into this one, without copying their files."""
        for name, variant in kept.items():
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
            for record in variant.files:
                os.link(out / record.path, self.folder / record.path)
            self._add(name, msgspec.structs.replace(variant, parity=(), accepted=False))

    def write_variant(self, checkpoint: Checkpoint, precision: Precision, recipe: Recipe | None = None) -> None:
        """Write one variant, tensor by tensor, unless an earlier run finished it.

        An existing variant stays, whatever the recipe. Call `forget` first to replace one that was made with another
        recipe.

        Raises:
            ExportError: the folder cannot be written, or the disk is full.
        """
        if precision in self.partial.variants:
            return
        folder = self.folder / precision
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        model = variant_model(checkpoint, precision, recipe)
        spec = PRECISIONS[precision]
        others = other_targets(model, spec, checkpoint.architecture)
        with _writing(folder, folder / TENSORS, num_bytes(model)):
            _save(model, folder / GRAPH, f"writing {precision}")
            for name, target in others.items():
                other = variant_model(checkpoint, precision, recipe, target)
                share_tensors(other, folder / GRAPH)
                ir.save(other, folder / GRAPHS[name])
        targets: dict[GraphName, Target] = {"cpu": cpu_target(spec.encoding.dtype), **others}
        self._add(precision, self._variant(folder, targets, recipe))

    def rewrite_graphs(self, checkpoint: Checkpoint, precision: Precision, recipe: Recipe) -> None:
        """Write the graphs of a written variant anew, for a recipe that leaves its tensors as they are.

        Raises:
            ExportError: the folder cannot be written, or the disk is full.
        """
        folder, spec = self.folder / precision, PRECISIONS[precision]
        first = variant_model(checkpoint, precision, recipe)
        others = other_targets(first, spec, checkpoint.architecture)
        targets: dict[GraphName, Target] = {"cpu": cpu_target(spec.encoding.dtype), **others}
        models: dict[GraphName, ir.Model] = {"cpu": first}
        models |= {name: variant_model(checkpoint, precision, recipe, target) for name, target in others.items()}
        for model in models.values():
            share_tensors(model, folder / GRAPH)
        self.forget([precision])
        with _writing(folder, folder / GRAPH):
            for name, model in models.items():
                ir.save(model, folder / GRAPHS[name])
        self._add(precision, self._variant(folder, targets, recipe))

    def _variant(self, folder: Path, targets: dict[GraphName, Target], recipe: Recipe | None) -> Variant:
        """Return the record of a written variant before it is measured: no parity, not accepted."""
        return Variant(
            graphs={
                name: Graph(record_file(self.folder, folder / GRAPHS[name]), target.layout)
                for name, target in targets.items()
            },
            data=(record_file(self.folder, folder / TENSORS),),
            parity=(),
            accepted=False,
            quantization=recipe.record if isinstance(recipe, Plan) else None,
            scaling=recipe.record if isinstance(recipe, Scaled) else None,
        )

    def forget(self, precisions: list[Precision]) -> None:
        """Drop variants from the record, so that the next export writes them again."""
        rest = {name: variant for name, variant in self.partial.variants.items() if name not in precisions}
        settled = tuple(name for name in self.partial.settled if name not in precisions)
        self._record(msgspec.structs.replace(self.partial, variants=rest, settled=settled))

    def set_aside(self, precision: Precision) -> Variant:
        """Take a written variant out of the record, with its files, so that another can be written in its place.

        Returns:
            The variant, for `take_back`.
        """
        variant = self.partial.variants[precision]
        self.forget([precision])
        shutil.rmtree(self._aside(precision), ignore_errors=True)
        (self.folder / precision).rename(self._aside(precision))
        return variant

    def take_back(self, precision: Precision, variant: Variant) -> None:
        """Replace a written variant by the one that was set aside."""
        self.forget([precision])
        shutil.rmtree(self.folder / precision)
        self._aside(precision).rename(self.folder / precision)
        self._add(precision, variant)

    def _aside(self, precision: Precision) -> Path:
        return self.folder / f"{precision}-aside"

    def settle(self, precision: Precision) -> None:
        """Record that nothing is left to choose about a written variant."""
        self._record(msgspec.structs.replace(self.partial, settled=(*self.partial.settled, precision)))

    def _add(self, precision: Precision, variant: Variant) -> None:
        """Record a finished variant."""
        self._record(msgspec.structs.replace(self.partial, variants={**self.partial.variants, precision: variant}))

    def publish(self, manifest: Manifest, out: Path) -> None:
        """Write the manifest, remove variants that it does not name, and give the folder its final name.

        Raises:
            ExportError: the disk is full or the folder cannot be written, and nothing was published.
        """
        for entry in self.folder.iterdir():
            if entry.name not in {TOKENIZER, *manifest.variants}:
                remove(entry)
        with _writing(self.folder, self.folder / MANIFEST):
            write_manifest(self.folder, manifest)
        replace_folder(self.folder, out)

    def _record(self, partial: Partial) -> None:
        """Replace partial.json in one step."""
        content = msgspec.json.encode(partial)
        file = self.folder / PARTIAL
        with _writing(self.folder, file), replacing(file, len(content), ExportError) as draft:
            draft.write_bytes(content)
        self.partial = partial


def num_bytes(model: ir.Model) -> int:
    """Return the size of a graph's tensors in bytes."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _save(model: ir.Model, graph: Path, description: str) -> None:
    """Write a graph, and its tensors one by one into a file beside it, with a progress bar."""
    with tqdm(desc=description, unit=" tensors", disable=None) as bar:

        def advance(_: ir.TensorProtocol, info: ir.external_data.CallbackInfo) -> None:
            bar.total = info.total
            bar.update()

        ir.save(
            model,
            graph,
            external_data=TENSORS,
            callback=advance,
            max_workers=1,
            alignment=PAGE,
            align_threshold=PAGE,
        )
