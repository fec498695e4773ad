"""Every error that quoit raises, in one table: each names the offending value and says what to do next.

A case makes the real thing happen. The last test reads the source, and fails where an error has no case.
"""

import ast
import errno
import gzip
import json
import os
import re
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NamedTuple, NoReturn, cast

import msgspec
import numpy as np
import onnxruntime
import pyarrow
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray
from pyarrow import parquet
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, processors

import quoit
import quoit.cli.main
import quoit_export
import quoit_export.cli
from quoit import ArtifactError, ComputeError, Embedder, InputError, ProviderError, Reranker, calibration_ranges
from quoit.artifact import (
    FORMAT,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    TOKENIZER,
    Manifest,
    Precision,
    Task,
    read_artifact,
    write_manifest,
)
from quoit.artifact.manifest import SEAL, sealed
from quoit.engine.profile import TUNING_FORMAT, Place, Setting, Tuning
from quoit.files.partial_output import PROGRESS, ROWS, Draft, drafting
from quoit.files.readers import Skipped, present, read_records, read_texts
from quoit.files.writers import write_records
from quoit.ort.cuda import free_bytes
from quoit.ort.session import choose
from quoit.text.tokenizer import TextTokenizer, Truncation
from quoit_export.build.staging import GRAPHS, Staging, bare_manifest
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import CheckpointError, ExportError, ParityError
from quoit_export.export import Request, publish
from quoit_export.verify.parity import held_out, transformers_answers
from support import byte_tokenizer, edit_json, make_model, make_reranker, save_checkpoint, save_rerank_checkpoint

LONGEST_MESSAGE = 600
LONG = "x" * 5000
BYTE_SIZES = {"vocab_size": 512, "num_hidden_layers": 2, "max_position_embeddings": 2048}
SHARD = "model.safetensors"
INDEX = "model.safetensors.index.json"

Tensors = dict[str, NDArray[Any]]
Document = dict[str, Any]


# What a case may use.


@dataclass(frozen=True)
class Sources:
    """Checkpoints and artifacts whose tokens are bytes, some 0.5 MB each. Read-only: copy them to change them."""

    checkpoint: Path
    artifact: Path
    half: Path
    rerank_checkpoint: Path
    reranker: Path
    overflowing_checkpoint: Path
    overflowing: Path
    overflowing_reranker: Path


@dataclass(frozen=True)
class World:
    """A case's own empty folder, what it may copy there, and what it may change until it ends."""

    folder: Path
    patch: pytest.MonkeyPatch
    sources: Sources

    def copy(self, source: Path) -> Path:
        """A copy to change; its name is that of the source."""
        return shutil.copytree(source, self.folder / source.name)

    def write(self, name: str, content: str | bytes) -> str:
        """A file's path."""
        file = self.folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    def embedder(self) -> Embedder:
        return Embedder(self.sources.artifact, precision="fp32", provider="cpu")

    def reranker(self) -> Reranker:
        return Reranker(self.sources.reranker, precision="fp32", provider="cpu")

    def export(self, *precisions: Precision, checkpoint: Path | None = None, **options: Any) -> object:
        folder = checkpoint or self.sources.checkpoint
        return publish(open_checkpoint(str(folder)), Request(self.folder / "out", precisions, **options))


Trigger = Callable[[World], object]


@dataclass(frozen=True)
class Command:
    """A command line as a trigger: run as its program does, but for the handling of errors."""

    program: str
    arguments: Callable[[World], list[str]]

    def __call__(self, world: World) -> object:
        if self.program == "quoit":
            options = quoit.cli.main.make_parser().parse_args(self.arguments(world))
            return options.run(options)
        return quoit_export.cli.run(quoit_export.cli.make_parser().parse_args(self.arguments(world)))

    def main(self, world: World) -> int:
        """The whole program."""
        main = quoit.cli.main.main if self.program == "quoit" else quoit_export.cli.main
        return main(self.arguments(world))


@dataclass(frozen=True)
class Case:
    """An error that can happen.

    Attributes:
        name: what is wrong.
        trigger: makes it happen.
        error: the class.
        value: the offending value, as the message has it.
        step: what to do, as the message has it.
    """

    name: str
    trigger: Trigger
    error: type[Exception]
    value: str
    step: str


# Where errors are raised, and where one came from.


class Site(NamedTuple):
    """A raise statement: the file, the function around it, and its number among that function's."""

    file: str
    function: str
    number: int


PACKAGES = tuple(Path(str(package.__file__)).parent for package in (quoit, quoit_export))
EXCLUDED: dict[Site, str] = {
    Site(
        "quoit_export/checkpoint/templates.py", "_refuse", 1
    ): "an error of a chat template, which `read_template` catches",
}
"""Sites without a case, and why."""


@cache
def raise_sites() -> dict[Site, range]:
    """Every raise statement of both packages that makes an error, and its lines; others pass one on."""
    found: dict[Site, range] = {}
    for package in PACKAGES:
        for file in sorted(package.rglob("*.py")):
            name = file.relative_to(package.parent).as_posix()
            for function, statement in raises_below(ast.parse(file.read_text(encoding="utf-8")), ""):
                number = sum(site[:2] == (name, function) for site in found) + 1
                found[Site(name, function, number)] = range(statement.lineno, (statement.end_lineno or 0) + 1)
    return found


def raises_below(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Raise]]:
    """The raise statements below a node that make an error, and their functions' names, in the order of the source."""
    for child in ast.iter_child_nodes(node):
        inner = function
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            inner = f"{function}.{child.name}".lstrip(".")
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            yield function, child
        yield from raises_below(child, inner)


def origin(trace: TracebackType | None) -> Site | None:
    """The raise statement that an error of ours came from."""
    ours = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(trace)
        if any(Path(frame.f_code.co_filename).is_relative_to(package) for package in PACKAGES)
    ]
    if not ours:
        return None
    file, line = ours[-1]
    name = next(file.relative_to(package.parent).as_posix() for package in PACKAGES if file.is_relative_to(package))
    return next((site for site, lines in raise_sites().items() if site.file == name and line in lines), None)


# Triggers that several cases share.


def encode(text: Any, **options: Any) -> Trigger:
    return lambda world: world.embedder().encode(text, **options)


def predict(*pairs: Any, **options: Any) -> Trigger:
    return lambda world: world.reranker().predict(pairs, **options)


def load(**options: Any) -> Trigger:
    """Loading the sound artifact with some options."""
    return lambda world: Embedder(world.sources.artifact, **{"precision": "fp32", "provider": "cpu", **options})


def read(name: str, content: str | bytes, **options: Any) -> Trigger:
    """Reading texts from a file."""
    return lambda world: list(read_texts(world.write(name, content), **options))


def read_table(**columns: list[Any]) -> Trigger:
    """Reading texts from a table."""

    def trigger(world: World) -> object:
        parquet.write_table(pyarrow.table(columns), world.folder / "texts.parquet")
        return list(read_texts(str(world.folder / "texts.parquet")))

    return trigger


def edit_manifest(folder: Path, change: Callable[[Document], object]) -> None:
    """Writes another manifest, with the seal that is its own."""
    document: Document = msgspec.to_builtins(read_artifact(folder).manifest)
    change(document)
    write_manifest(folder, msgspec.convert(document, Manifest))


def with_manifest(change: Callable[[Document], object], precision: Precision | None = "fp32") -> Trigger:
    """Loading a copy of the artifact with another manifest."""

    def trigger(world: World) -> object:
        folder = world.copy(world.sources.artifact)
        edit_manifest(folder, change)
        return Embedder(folder, precision=precision, provider="cpu")

    return trigger


def with_fields(**changes: Any) -> Trigger:
    """Loading a copy of the artifact whose manifest has other fields, and the seal that it had."""
    return with_file(MANIFEST, lambda file: edit_json(file, **changes))


def with_file(name: str, change: Callable[[Path], object]) -> Trigger:
    """Loading a copy of the artifact with a changed file."""

    def trigger(world: World) -> object:
        folder = world.copy(world.sources.artifact)
        change(folder / name)
        return Embedder(folder, precision="fp32", provider="cpu")

    return trigger


def with_config(**changes: Any) -> Trigger:
    """Opening a copy of the checkpoint with another config.json; None removes a key."""

    def trigger(world: World) -> object:
        folder = world.copy(world.sources.checkpoint)
        edit_json(folder / "config.json", **changes)
        return open_checkpoint(str(folder))

    return trigger


def with_checkpoint(change: Callable[[Path], object]) -> Trigger:
    """Opening a changed copy of the checkpoint."""

    def trigger(world: World) -> object:
        folder = world.copy(world.sources.checkpoint)
        change(folder)
        return open_checkpoint(str(folder))

    return trigger


def replaced(name: str, content: str | None) -> Trigger:
    """Opening a copy of the checkpoint with another file of a name, or without it."""
    return with_checkpoint(lambda folder: put(folder / name, content))


def put(file: Path, content: str | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> Path:
    """Other tensors in a copied checkpoint."""
    tensors = load_file(folder / SHARD)
    change(tensors)
    save_file(tensors, folder / SHARD, metadata={"format": "pt"})
    return folder


def with_tensors(change: Callable[[Tensors], object]) -> Trigger:
    return with_checkpoint(lambda folder: change_tensors(folder, change))


def with_tokenizer(change: Callable[[Tokenizer], object]) -> Trigger:
    """Opening a copy of the checkpoint with another tokenizer."""

    def trigger(folder: Path) -> None:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        change(tokenizer)
        tokenizer.save(str(folder / TOKENIZER))

    return with_checkpoint(trigger)


def with_index(document: Document) -> Trigger:
    """Opening a copy of the checkpoint with an index of shards, and not in a single file."""

    def change(folder: Path) -> None:
        (folder / SHARD).unlink()
        (folder / INDEX).write_text(json.dumps(document))

    return with_checkpoint(change)


LIKE = np.empty((0, 4), np.float32)


def draft(world: World, *texts: str, job: str = "job", resume: bool = True) -> None:
    """A bulk run that puts all its texts into the output's draft and ends there, as if it were interrupted."""
    with suppress(KeyboardInterrupt), drafting(world.folder / "out.npy", job, LIKE, resume=resume) as opened:
        fill(opened, texts)
        raise KeyboardInterrupt


def fill(opened: Draft, texts: tuple[str, ...]) -> None:
    new = list(opened.remaining(texts))
    opened.write(np.ones((len(new), 4), np.float32), len(new), Truncation())


def write_beyond_a_limit(world: World) -> None:
    """A limit on the size of files stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        write_records(world.folder / "out.jsonl", [{"text": LONG}], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_to_a_link(target: str) -> Trigger:
    """Writing to a symbolic link."""

    def trigger(world: World) -> None:
        (world.folder / "out.jsonl").symlink_to(target)
        write_records(world.folder / "out.jsonl", [], {})

    return trigger


def bench_without_a_cache(world: World) -> list[str]:
    world.patch.setenv("XDG_CACHE_HOME", world.write("cache", ""))
    return ["bench", str(world.sources.artifact)]


def version_of_sources(world: World) -> object:
    world.patch.setattr(sys, "path", [])  # no distribution is found
    return quoit.__version__


def forget_to_resume(world: World) -> None:
    draft(world, "a", "b", resume=False)
    draft(world, "a", "b", "c", resume=False)


def resumed(*texts: str, job: str = "job", name: str = ROWS, content: str | None = None) -> Trigger:
    """A run that is taken up after the texts a and b, and after another content of one of its files."""

    def trigger(world: World) -> None:
        draft(world, "a", "b", resume=False)
        if content is not None:
            (world.folder / ".out.npy.partial" / name).write_text(content)
        draft(world, *texts, job=job)

    return trigger


# Triggers that take more than a line.


def encode_what_the_tokenizer_cannot(world: World) -> object:
    """A vocabulary of words without one for unknown words."""
    artifact = read_artifact(world.sources.artifact)
    tokenizer = byte_tokenizer()
    words = Tokenizer(models.WordLevel(tokenizer.get_vocab(with_added_tokens=True), unk_token="none"))
    words.post_processor = tokenizer.post_processor
    words.save(str(world.folder / TOKENIZER))
    return TextTokenizer.load(world.folder / TOKENIZER, artifact.manifest).encode(["unheard-of"])


def lock_that_is_a_folder(world: World) -> None:
    (world.folder / ".out.npy.lock").mkdir()
    draft(world, "a")


def write_while_another_does(world: World) -> None:
    with FileLock(world.folder / ".out.npy.lock"):
        draft(world, "a")


def export_while_another_does(world: World) -> object:
    with FileLock(world.folder / ".out.lock"):
        return world.export("fp32")


def write_over_a_folder(world: World) -> None:
    (world.folder / "ranking.jsonl").mkdir()
    write_records(world.folder / "ranking.jsonl", [], {})


def read_parquet_without_pyarrow(world: World) -> object:
    world.patch.setitem(sys.modules, "pyarrow", cast("Any", None))  # an import block: the tests have pyarrow
    return list(read_texts(world.write("texts.parquet", b"")))


def read_markdown_without_its_parser(world: World) -> object:
    world.patch.setitem(sys.modules, "markdown_it", cast("Any", None))
    return list(read_texts(world.write("texts.md", b"text\n")))


def read_damaged_parquet(world: World) -> object:
    """The footer is whole, so that the damage shows only while reading."""
    file = world.folder / "texts.parquet"
    parquet.write_table(pyarrow.table({"text": [f"text {number}" for number in range(2000)]}), file)
    content = bytearray(file.read_bytes())
    content[100:140] = bytes(byte ^ 0x5A for byte in content[100:140])
    file.write_bytes(content)
    return list(read_texts(str(file)))


def read_csv_beyond_the_limit(content: str) -> Trigger:
    def trigger(world: World) -> object:
        # The csv module refuses nothing but a field beyond the limit, which is a gibibyte.
        world.patch.setattr("quoit.files.readers.delimited.FIELD_CHARACTERS", 100)
        return list(read_texts(world.write("texts.csv", content)))

    return trigger


def read_beyond_a_limit(limit: str, name: str) -> Trigger:
    def trigger(world: World) -> object:
        world.patch.setattr(f"quoit.files.readers.streams.{limit}", 10)  # the limits are hundreds of megabytes
        return list(read_texts(world.write(name, '["a", "b", "c"]')))

    return trigger


def read_a_file_that_went_away(world: World) -> object:
    texts = read_texts(world.write("texts.txt", "a\n"))
    (world.folder / "texts.txt").unlink()
    return list(texts)


def read_closed_standard_input(world: World) -> object:
    world.patch.setattr("sys.stdin", None)  # as Python has it after `<&-`
    return list(read_texts("-"))


def read_a_folder_that_is_closed(world: World) -> object:
    # An import block of the system's own function: root, who may run the tests, can list every folder.
    def scandir(path: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    world.patch.setattr("os.scandir", scandir)
    return read_texts(str(world.folder))


def read_two_columns_of_one_name(world: World) -> object:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(table, world.folder / "texts.parquet")
    return list(read_texts(str(world.folder / "texts.parquet")))


def all_lack_the_column(world: World) -> object:
    records = read_records(world.write("texts.jsonl", '{"body": "a"}\n{"id": 2}\n'))
    return list(present(records, Skipped()))


def embed_without_ids(world: World) -> list[str]:
    world.write("texts.txt", "a\n")
    model = ["-m", str(world.sources.artifact)]
    return ["embed", str(world.folder / "texts.txt"), "-o", str(world.folder / "out.npy"), "--skip-missing", *model]


def embed_onto_its_input(world: World) -> list[str]:
    file = world.write("texts.jsonl", '"a"\n')
    return ["embed", file, "-o", file, "-m", str(world.sources.artifact)]


def falling_ranges(world: World) -> object:
    embedder = world.embedder()
    ranges = calibration_ranges(embedder.encode(["a", "b"]))
    ranges[:, 7] = ranges[::-1, 7]
    return embedder.encode("a", dtype="int8", ranges=ranges)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def reject(document: Document, *names: str) -> None:
    """Marks variants as export marks those below their floor."""
    parity = {"measure": "cosine", "reference": "fp32", "texts": "held-out", "samples": 9}
    parity |= {"mean": 0.75, "p1": 0.6, "least": 0.5, "floor": 0.985, "mean_floor": 0.995}
    for name in names:
        document["variants"][name].update(accepted=False, parity=[parity])


def add_a_field_of_the_future(file: Path) -> None:
    """A field that this quoit does not know, with the seal that a newer one computes."""
    document = json.loads(file.read_text()) | {"rows_in_two_passes": True}
    file.write_text(json.dumps(document | {SEAL: sealed(document)}))


def claim_a_graph(document: Document) -> None:
    """A variant whose only file is the tokenizer."""
    document["variants"]["fp32"].update(graphs={}, data=[document["tokenizer"]])


def no_model(world: World) -> object:
    """A graph that onnxruntime cannot load, with the right hash."""
    folder = world.copy(world.sources.artifact)
    shutil.copyfile(folder / TOKENIZER, folder / "fp32/model.onnx")

    def change(document: Document) -> None:
        graph = document["variants"]["fp32"]["graphs"]["cpu"]["file"]
        graph.update(document["tokenizer"] | {"path": graph["path"]})

    edit_manifest(folder, change)
    return Embedder(folder, precision="fp32", provider="cpu")


def graph_of_another_kind(world: World) -> object:
    """CUDA's graph where the CPU's belongs, with the right hash."""
    folder = world.copy(world.sources.half)
    shutil.copyfile(folder / "fp16" / GRAPHS["cuda"], folder / "fp16" / GRAPHS["cpu"])

    def change(document: Document) -> None:
        cpu, cuda = (document["variants"]["fp16"]["graphs"][name]["file"] for name in ("cpu", "cuda"))
        cpu.update(cuda | {"path": cpu["path"]})

    edit_manifest(folder, change)
    return Embedder(folder, precision="fp16", provider="cpu")


def without_onnxruntime(world: World) -> object:
    world.patch.setitem(sys.modules, "onnxruntime", cast("Any", None))  # an import block: the tests have it
    return load()(world)


def cuda_that_is_not_offered(world: World) -> object:
    # For machines whose onnxruntime does offer it.
    world.patch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    return load(provider="cuda")(world)


def cuda_that_does_not_load(world: World) -> object:
    """An onnxruntime for CUDA on a machine without it gives the CPU's provider, and so does one for CPUs."""
    # For machines whose onnxruntime does not offer it; it warns, which is an error in tests.
    world.patch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    world.patch.setattr("quoit.ort.session.prepare", lambda module: None)  # as if the libraries were there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Embedder(world.sources.half, precision="fp16", provider="cuda")


def cuda_without_its_libraries(world: World) -> object:
    world.patch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    world.patch.setenv("PATH", str(world.folder))  # for machines with a driver
    return Embedder(world.sources.half, precision="fp16", provider="cuda")


def cuda_with_fp32(world: World) -> object:
    world.patch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    return load(provider="cuda")(world)


def no_driver(world: World) -> object:
    world.patch.setenv("PATH", str(world.folder))
    return free_bytes()


def no_device(world: World) -> object:
    """A driver that answers as it does where no device is found."""
    program = Path(world.write("nvidia-smi", "#!/bin/sh\necho 'No devices were found'\nexit 6\n"))
    program.chmod(0o755)
    world.patch.setenv("PATH", str(world.folder))
    return free_bytes()


def measure_where_int8_saturates(world: World) -> object:
    world.patch.setattr("quoit.ort.session.int8_is_exact", lambda: False)  # for CPUs where it is exact
    return world.export("int8")


def encode_beyond_float16(world: World) -> object:
    """Only a vector that is not normalised can be."""

    def change(tensors: Tensors) -> None:
        tensors["norm.weight"] *= 2**20

    checkpoint = change_tensors(world.copy(world.sources.checkpoint), change)
    embedder = Embedder(write_ungated(checkpoint, world.folder / "large"), precision="fp32", provider="cpu")
    return embedder.encode("a", normalize=False, dtype="float16")


def overwrite_the_checkpoint(world: World) -> object:
    folder = world.copy(world.sources.checkpoint)
    return publish(open_checkpoint(str(folder)), Request(folder.parent, ("fp32",), overwrite=True))


def export_poor_int8(world: World) -> object:
    """Attention so sharp that the least error decides which key a query reads."""

    def change(tensors: Tensors) -> None:
        for layer in range(BYTE_SIZES["num_hidden_layers"]):
            tensors[f"layers.{layer}.self_attn.q_norm.weight"] *= 1024

    folder = change_tensors(world.copy(world.sources.checkpoint), change)
    return world.export("fp32", "int8", checkpoint=folder)


def export_into_something_else(world: World) -> object:
    (world.folder / "out").mkdir()
    world.write("out/notes.txt", "mine")
    return world.export("fp32")


def export_over_a_damaged_manifest(world: World) -> object:
    (world.folder / "out").mkdir()
    world.write(f"out/{MANIFEST}", "mine")
    return world.export("fp32")


def export_over_half_an_artifact_without_manifest(world: World) -> object:
    (world.folder / "out").mkdir()
    world.write(f"out/{TOKENIZER}", "mine")
    return world.export("fp32", overwrite=True)


def leave_an_added_token_out(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.add_tokens(["[MORE]"])
    tokenizer.save(str(folder / TOKENIZER))
    token = {"content": "<|endoftext|>", "special": True, "normalized": False}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"256": token}}))


def drop_tokens_by_chance(folder: Path) -> None:
    document = json.loads((folder / TOKENIZER).read_text())
    document["model"]["dropout"] = 0.1
    (folder / TOKENIZER).write_text(json.dumps(document))


def export_below_a_file(world: World) -> object:
    world.write("file", "mine")
    return publish(open_checkpoint(str(world.sources.checkpoint)), Request(world.folder / "file" / "out", ("fp32",)))


def export_where_nothing_fits(world: World) -> object:
    """A limit on the size of files stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint = open_checkpoint(str(world.sources.checkpoint))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        return publish(checkpoint, Request(world.folder / "out", ("fp32",)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def export_over_a_file(world: World) -> object:
    world.write("out", "mine")
    return world.export("fp32", overwrite=True)


def export_over_the_current_folder(world: World) -> object:
    (world.folder / "out").mkdir()
    world.patch.chdir(world.folder / "out")
    return world.export("fp32", overwrite=True)


def verify_without_torch(world: World) -> object:
    world.patch.setitem(sys.modules, "torch", cast("Any", None))  # an import block: the tests have torch
    return world.export("fp32", verify=True)


def export_into_half_an_artifact(world: World) -> object:
    shutil.copytree(world.sources.artifact, world.folder / "out")
    (world.folder / "out/int8/model.onnx.data").unlink()
    return world.export("fp32")


def export_into_another_artifact(world: World) -> object:
    shutil.copytree(world.sources.reranker, world.folder / "out")
    return world.export("fp32")


def export_to_a_full_disk(world: World) -> object:
    world.patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12_345))  # no disk here is so small
    return world.export("fp32")


def export_to_a_disk_that_fills_up(world: World) -> object:
    """A limit on the size of files stands for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        return world.export("fp32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def export_values_beyond_float16(world: World) -> object:
    """Weights that float16 holds, and sums that it does not; no power of two is folded into v."""

    def change(tensors: Tensors) -> None:
        name = "layers.0.self_attn.{}_proj.weight".format
        tensors[name("v")][:] = np.sign(tensors[name("v")].astype(np.float32)) * 3e4
        tensors[name("o")][:] = tensors[name("o")].astype(np.float32) * 1e-6

    return world.export("fp16", checkpoint=change_tensors(world.copy(world.sources.checkpoint), change))


def export_beyond_float16(world: World) -> object:
    def change(tensors: Tensors) -> None:
        tensors["layers.0.mlp.gate_proj.weight"][0, 0] = 1e5  # nothing scales it

    return world.export("fp16", checkpoint=change_tensors(world.copy(world.sources.checkpoint), change))


def verify_without_transformers(world: World) -> object:
    world.patch.setitem(sys.modules, "transformers", cast("Any", None))  # an import block: the tests have it
    checkpoint = open_checkpoint(str(world.sources.checkpoint))
    return transformers_answers(checkpoint, read_artifact(world.sources.artifact), held_out())


def run_in_another_process(world: World) -> object:
    """A child cannot tell this table of its error: `test_fork_guard` forks."""
    embedder = world.embedder()
    world.patch.setattr(os, "getpid", lambda: 1)
    return embedder.encode("text")


def rerank_without_a_token_for_yes(world: World) -> object:
    folder = world.copy(world.sources.rerank_checkpoint)
    shutil.copyfile(world.sources.checkpoint / TOKENIZER, folder / TOKENIZER)
    return open_checkpoint(str(folder))


def leave_the_task_open(folder: Path) -> None:
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.post_processor = processors.ByteLevel()
    tokenizer.save(str(folder / TOKENIZER))
    edit_json(folder / "config.json", architectures=[])


def with_tensor_twice(folder: Path) -> object:
    return change_tensors(folder, lambda found: found.update({"model.norm.weight": np.ones(96, np.float32)}))


def with_prefix(folder: Path) -> None:
    def prefix(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[f"module.{name}"] = tensors.pop(name)

    change_tensors(folder, prefix)


def with_reranker(change: Callable[[Path], object], *, task: Task | None = None) -> Trigger:
    """Opening a changed copy of the reranker's checkpoint."""

    def trigger(world: World) -> object:
        folder = world.copy(world.sources.rerank_checkpoint)
        change(folder)
        return open_checkpoint(str(folder), task=task)

    return trigger


def as_cross_encoder(template: str | None = None, **answers: Any) -> Trigger:
    """A reranker as sentence-transformers saves it, with another template or other answers."""
    forward = {"method": "forward", "method_output_name": "logits"}
    modalities = {"text": forward, "message": {**forward, "format": "flat"}}

    def change(folder: Path) -> None:
        kinds = {"": "base.modules.transformer.Transformer", "1_LogitScore": "cross_encoder.modules.LogitScore"}
        modules = [{"path": path, "type": f"sentence_transformers.{kind}"} for path, kind in kinds.items()]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_LogitScore").mkdir()
        (folder / "1_LogitScore" / "config.json").write_text(
            json.dumps({"true_token_id": 257, "false_token_id": 258} | answers)
        )
        settings = {"transformer_task": "text-generation", "modality_config": modalities}
        (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)

    return with_reranker(change)


def join_the_template(folder: Path) -> None:
    """The text's end and the suffix's beginning become one token."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.add_tokens(["that<|"])
    tokenizer.save(str(folder / TOKENIZER))


def without_settings(folder: Path) -> None:
    """A CrossEncoder whose Transformer module says nothing."""
    module = {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    (folder / "modules.json").write_text(json.dumps([module]))
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')


def lose_the_modules(folder: Path) -> None:
    (folder / "modules.json").unlink()


def open_a_module(world: World) -> object:
    """The Transformer's own folder of a checkpoint in the old layout."""
    folder = world.copy(world.sources.checkpoint)
    inner = shutil.copytree(folder, world.folder / "copy")
    inner.rename(folder / "0_Transformer")
    (folder / "0_Transformer" / "modules.json").unlink()
    return open_checkpoint(str(folder / "0_Transformer"))


def lose_the_weights(world: World) -> object:
    folder = world.copy(world.sources.checkpoint)
    checkpoint = open_checkpoint(str(folder))
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-8])
    return checkpoint.tensor("norm.weight")


def read_a_tensor_that_is_not_finite(world: World) -> object:
    def change(tensors: Tensors) -> None:
        tensors["norm.weight"][3] = np.nan

    folder = change_tensors(world.copy(world.sources.checkpoint), change)
    return open_checkpoint(str(folder)).tensor("norm.weight")


def open_below_a_folder(world: World) -> object:
    (world.folder / "models").mkdir()
    world.patch.chdir(world.folder)
    return open_checkpoint("models/typo")


def ask_a_hub_that_is_away(world: World) -> object:
    # The hub's settings are read from the environment once, at import.
    world.patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    world.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(world.folder))
    return open_checkpoint("some/model")


def rank_arguments(*more: str) -> Callable[[World], list[str]]:
    """`quoit search` over a file, with more arguments."""

    def arguments(world: World) -> list[str]:
        file = world.write("texts.txt", "a\nb\n")
        return ["search", "query", file, "-m", str(world.sources.artifact), "--no-cache", *more]

    return arguments


def embed_with_ranges(world: World) -> list[str]:
    texts, ranges, output = world.write("texts.txt", "a\n"), world.write("ranges.npy", "no"), world.folder / "out.npy"
    artifact = str(world.sources.artifact)
    return ["embed", texts, "-o", str(output), "-m", artifact, "--dtype", "int8", "--ranges", ranges]


def search_with_a_file_as_cache(world: World) -> list[str]:
    return rank_arguments("--cache", world.write("cache", ""))(world)


def tuned_for(change: Callable[[Document], object]) -> Trigger:
    """Loading the sound artifact with a tuning file that is this machine's but for a change."""

    def trigger(world: World) -> object:
        artifact = read_artifact(world.sources.artifact)
        setting = Setting(threads=1, workers=1, batch_tokens=64)
        place = Place.here(artifact, choose(artifact, "cpu", "fp32"))
        document: Document = msgspec.to_builtins(Tuning(TUNING_FORMAT, place, setting, setting))
        change(document)
        file = world.write("tuning.json", msgspec.json.encode(document))
        return Embedder(artifact, precision="fp32", provider="cpu", tuning=file)

    return trigger


def embed_untuned(world: World) -> list[str]:
    world.patch.setenv("XDG_CACHE_HOME", str(world.folder))
    arguments = [
        "--tuned",
        "--precision",
        "fp32",
        "-m",
        str(world.sources.artifact),
        "-o",
        str(world.folder / "out.npy"),
    ]
    return ["embed", world.write("texts.txt", "a\n"), *arguments]


def bench_arguments(*more: str, texts: int = 0) -> Callable[[World], list[str]]:
    """`quoit bench` of the sound artifact, with a file of so many texts."""

    def arguments(world: World) -> list[str]:
        given = ["--texts", world.write("few.txt", "a\n" * texts)] if texts else []
        return ["bench", str(world.sources.artifact), *given, *more]

    return arguments


def search_without_a_model(world: World) -> list[str]:
    world.patch.delenv("QUOIT_MODEL", raising=False)
    return ["similarity", "query", world.write("texts.txt", "a\n")]


class Nameless:
    """Something whose repr is Python's own."""


SETTINGS = {"quant_method": "awq", "modules_to_not_convert": [f"model.layers.{layer}" for layer in range(200)]}
"""Such as quantized checkpoints have, at full length."""

TOKENS = [
    Case(
        "the tokenizer appends another token",
        with_manifest(lambda found: found["contract"].update(end_token_id=255)),
        ArtifactError,
        "appends [256]",
        "export the artifact again",
    ),
    Case(
        "the tokenizer has more ids than the model",
        with_manifest(lambda found: found.update(vocab_size=256)),
        ArtifactError,
        "ids up to 256",
        "export the artifact again",
    ),
    Case("no room for a text", load(max_tokens=1), InputError, "max_tokens 1 ", "a whole number from 2"),
    Case("more tokens than the model takes", load(max_tokens=4096), InputError, "max_tokens 4096 ", "to 2048"),
    Case("tokens by half", load(max_tokens=8.5), InputError, "max_tokens 8.5 ", "a whole number from 2"),
    Case(
        "no tokenizer",
        lambda world: TextTokenizer.load(
            Path(world.write(TOKENIZER, "{}")), read_artifact(world.sources.artifact).manifest
        ),
        ArtifactError,
        "/tokenizer.json is no readable tokenizer",
        "export the artifact again",
    ),
    Case(
        "a text that the tokenizer cannot encode",
        encode_what_the_tokenizer_cannot,
        InputError,
        "'unheard-of'",
        "check their characters",
    ),
]

FILES = [
    Case("an output in use", write_while_another_does, InputError, "/out.npy", "wait for it, or name another"),
    Case("an artifact in use", export_while_another_does, ExportError, "/out;", "wait for it, or name another"),
    Case(
        "a lock that cannot be taken",
        lock_that_is_a_folder,
        InputError,
        "/out.npy",
        "name a folder you may write to",
    ),
    Case(
        "an unknown kind of output",
        Command("quoit", rank_arguments("-o", "ranking.xml")),
        InputError,
        "'.xml'",
        "end it in one of .jsonl, .parquet",
    ),
    Case("an output that is a folder", write_over_a_folder, InputError, "/ranking.jsonl is a folder", "name a file"),
    Case(
        "an output in no folder",
        lambda world: write_records(world.folder / "absent/ranking.jsonl", [], {}),
        InputError,
        "/absent is no folder",
        "make it, or name another",
    ),
    Case(
        "parquet without pyarrow",
        read_parquet_without_pyarrow,
        InputError,
        "parquet needs pyarrow",
        "pip install 'quoit[parquet]'",
    ),
    Case("an unknown kind of texts", read("texts.docx", ""), InputError, "'docx'", "with --input-format"),
    Case(
        "texts that are not there",
        lambda world: read_texts(str(world.folder / "absent.txt")),
        InputError,
        "/absent.txt is no file",
        "check the path, or use -",
    ),
    Case(
        "Markdown without its parser",
        read_markdown_without_its_parser,
        InputError,
        "Markdown needs markdown-it-py",
        "pip install 'quoit[markdown]'",
    ),
    Case(
        "parquet from standard input",
        lambda _: read_texts("-", kind="parquet"),
        InputError,
        "parquet cannot be read from standard input",
        "name a file",
    ),
    Case("parquet in gzip", read("texts.parquet.gz", b"\x1f\x8b"), InputError, "/texts.parquet.gz is", "with gunzip"),
    Case(
        "an empty folder", lambda world: read_texts(str(world.folder)), InputError, " is a folder without", "end in one"
    ),
    Case(
        "a name that is empty",
        lambda _: read_texts(""),
        InputError,
        "the file name is empty",
        "name a file or a folder",
    ),
    Case(
        "a folder that is closed", read_a_folder_that_is_closed, InputError, "cannot be listed: Permission", "check its"
    ),
    Case("a file that went away", read_a_file_that_went_away, InputError, "/texts.txt cannot be read: No", "check it"),
    Case("standard input that is closed", read_closed_standard_input, InputError, "standard input is closed", "name a"),
    Case("texts in Latin-1", read("texts.txt", b"caf\xe9\n"), InputError, "byte 0xe9", "convert it first"),
    Case(
        "half a gzip file",
        read("a.txt.gz", gzip.compress(b"a\n")[:-9]),
        InputError,
        "/a.txt.gz is a damaged",
        "make it",
    ),
    Case("no gzip file", read("a.txt.gz", "text\n"), InputError, "/a.txt.gz ends in .gz and is no", "rename it"),
    Case(
        "a line too long", read_beyond_a_limit("LINE_BYTES", "a.txt"), InputError, "/a.txt, line 1 has", "break it up"
    ),
    Case("a file too long", read_beyond_a_limit("WHOLE_BYTES", "a.json"), InputError, "/a.json has more", "convert it"),
    Case("no array", read("a.json", '{"text": ["a"]}'), InputError, """begins '{"text": ["a"]}'""", "make it an array"),
    Case("no JSON array", read("a.json", '["a",\n'), InputError, "a.json, line 2 is not JSON", "correct it"),
    Case("an array without a comma", read("a.json", '["a"\n "b"]'), InputError, "line 2 has neither", "correct it"),
    Case(
        "two arrays",
        read("a.json", '["a"]\n["b"]'),
        InputError,
        "line 2 has text after the end of the array",
        "correct it",
    ),
    Case("an array in a line", read("a.jsonl", '["a"]\n'), InputError, "line 1 begins an array", "--input-format json"),
    Case(
        "a key twice",
        read("a.jsonl", '{"text": "a", "text": "b"}'),
        InputError,
        "the key 'text' more",
        "remove all but",
    ),
    Case(
        "half a character in JSON",
        read("a.jsonl", '"a\\ud800"'),
        InputError,
        "line 1 has the lone",
        "correct the escape",
    ),
    Case("all without the column", all_lack_the_column, InputError, "line 1 has no key 'text'", "with --column"),
    Case("a row too long", read("a.csv", "text\na,b\n"), InputError, "a.csv, line 2 has 2 fields", "in quotes"),
    Case("a quote not closed", read("a.csv", 'text\n"a\nb\n'), InputError, "a.csv, line 2 has a quote", "close it"),
    Case("a CSV column twice", read("a.csv", "text,text\n"), InputError, "line 1 names the column 'text' 2", "rename"),
    Case("columns of one name", read_two_columns_of_one_name, InputError, "has 2 columns 'text'", "rename"),
    Case(
        "a long delimiter", read("a.csv", "text\n", delimiter="ab"), InputError, "--delimiter 'ab'", "use one such as"
    ),
    Case("a delimiter for txt", read("a.txt", "a\n", delimiter=";"), InputError, "not for txt", "leave it out"),
    Case(
        "rows left out of npy", Command("quoit", embed_without_ids), InputError, "/out.npy has no ids", "write .jsonl"
    ),
    Case(
        "its own input",
        Command("quoit", embed_onto_its_input),
        InputError,
        "/texts.jsonl is the output",
        "name another",
    ),
    Case("a line that is no JSON", read("texts.jsonl", '"a"\n{\n'), InputError, ".jsonl, line 2", "correct it"),
    Case("a line of JSON too deep", read("texts.jsonl", '{"a":' * 100_000), InputError, ".jsonl, line 1", "correct it"),
    Case(
        "no such column of a CSV file",
        read("texts.csv", "id,body\n1,a\n"),
        InputError,
        "no column 'text', but ['id', 'body']",
        "name one with --column",
    ),
    Case(
        "a first line of a CSV file that is long",
        read("texts.csv", f"{LONG}\na\n"),
        InputError,
        "no column 'text'",
        "name one with --column",
    ),
    Case(
        "a CSV field beyond the limit",
        read_csv_beyond_the_limit(f"text\n{LONG}\n"),
        InputError,
        ".csv, line 2",
        "correct it",
    ),
    Case(
        "a CSV header beyond the limit",
        read_csv_beyond_the_limit(f"{LONG}\n"),
        InputError,
        ".csv, line 1",
        "correct it",
    ),
    Case("a file that is no parquet", read("texts.parquet", "text\n"), InputError, "/texts.parquet is no", "check it"),
    Case(
        "no such column of a parquet file",
        read_table(id=[1], body=["a"]),
        InputError,
        "no column 'text', but ['id', 'body']",
        "name one with --column",
    ),
    Case(
        "a parquet file of many columns",
        read_table(**{f"column {number}": ["a"] for number in range(500)}),
        InputError,
        "no column 'text'",
        "name one with --column",
    ),
    Case(
        "a damaged parquet file",
        read_damaged_parquet,
        InputError,
        "/texts.parquet cannot be read after row 0",
        "check it",
    ),
    Case(
        "a row without a text",
        read_table(text=["a", None]),
        InputError,
        "row 2 has null in 'text'",
        "with --skip-missing",
    ),
    Case(
        "a record without a text",
        read("texts.jsonl", '{"body": "a"}\n'),
        InputError,
        "no key 'text'; its keys are ['body']",
        "name another with --column",
    ),
    Case(
        "a record with a number",
        read("texts.jsonl", '{"text": 5}\n'),
        InputError,
        "no text in 'text', but 5",
        "name another with --column, or correct it",
    ),
]

DRAFTS = [
    Case(
        "a draft that nobody asked to discard",
        forget_to_resume,
        InputError,
        "/.out.npy.partial has 2 texts of a run that was not finished",
        "use --resume to go on with it, or --restart to start anew",
    ),
    Case(
        "a draft that lost its rows",
        resumed("a", "b", name=ROWS, content=""),
        InputError,
        "/.out.npy.partial is damaged",
        "use --restart",
    ),
    Case(
        "a draft of other texts",
        resumed("a", "c"),
        InputError,
        "the first 2 texts",
        "use --restart",
    ),
    Case(
        "a draft without its progress",
        resumed("a", "b", name=PROGRESS, content="{"),
        InputError,
        "/progress.json is damaged",
        "use --restart",
    ),
    Case(
        "a draft with progress of another kind",
        resumed("a", "b", name=PROGRESS, content=json.dumps({LONG: 1})),
        InputError,
        "/progress.json is damaged",
        "use --restart",
    ),
    Case(
        "a draft of another job",
        resumed("a", "b", job="other"),
        InputError,
        "/.out.npy.partial has 2 texts of a run with another model",
        "use --restart",
    ),
]

TEXTS = [
    Case(
        "documents that are one string",
        lambda world: world.reranker().rank("query", "one string"),
        TypeError,
        "'one string'",
        "put it into a list",
    ),
    Case("a text that is a number", encode(["a", 5]), TypeError, "text 1 is int 5", "convert it to a string"),
    Case("a text that is long bytes", encode([LONG.encode()]), TypeError, "text 0 is bytes b'xxx", "convert it"),
    Case("a text that is a matrix", encode([np.eye(3)]), TypeError, "text 0 is ndarray array(", "convert it"),
    Case("a text that is an object", encode([Nameless()]), TypeError, "text 0 is Nameless", "convert it to a string"),
    Case("a text with half a character", encode("a\ud800"), InputError, "'\\ud800' at position 1", 'errors="replace"'),
    Case("an unknown separator", predict(("a", "b"), separator=" "), InputError, "separator ' '", "choose one of"),
    Case("a pair that is one string", predict("alone"), TypeError, "str 'alone'", "make it (query, document)"),
    Case("a pair of three", predict(("a", "b"), ("a", "b", "c")), TypeError, "pair 1", "make it (query, document)"),
    Case("a pair that is a matrix", predict(np.eye(3)), TypeError, "pair 0 is ndarray", "make it (query, document)"),
    Case(
        "a document without a text",
        lambda world: world.reranker().rank("query", ["a", None]),  # type: ignore[list-item]
        TypeError,
        "document 1 is NoneType None",
        "leave out missing values",
    ),
    Case("a document that is None", predict(("a", None)), TypeError, "document of pair 0 is NoneType", "leave out"),
    Case("a text that is NaN", encode(["a", np.nan]), TypeError, "text 1 is float nan", "leave out missing values"),
    Case("a mapping of texts", encode({"id": "a"}), TypeError, "texts is dict", "pass list(texts.values())"),
    Case("a set of texts", encode({"a"}), TypeError, "texts is set", "pass a list, such as sorted(texts)"),
    Case("a table of texts", encode(pyarrow.table({"text": ["a"]})), TypeError, "texts is Table", "table['text']"),
    Case("texts that are bytes", encode(b"a"), TypeError, "texts is bytes", "decode it"),
    Case("texts that are a number", encode(5), TypeError, "texts is int 5", "pass a list of them"),
    Case("a matrix of texts", encode(np.array([["a"]])), TypeError, "shape (1, 1)", "array[:, 0]"),
    Case("a text in an array of none", encode(np.array("a")), TypeError, "shape ()", "array.item() for one text"),
    Case(
        "a stream of one string",
        lambda world: world.embedder().encode_stream("abc"),
        TypeError,
        "texts is one string, 'abc'",
        "put it into a list",
    ),
    Case(
        "pairs that are one string",
        lambda world: world.reranker().predict(cast("Any", "query")),
        TypeError,
        "pairs is one string, 'query'",
        "make it [(query, document), ...]",
    ),
    Case(
        "pairs that are triples",
        lambda world: world.reranker().predict(np.full((4, 3), "a")),
        TypeError,
        "shape (4, 3)",
        "make it [n, 2]",
    ),
]

OPTIONS = [
    Case("an unknown type of vectors", encode("a", dtype="int4"), InputError, "'int4'", "choose one of float32"),
    Case("no dimensions", encode("a", dim=0), InputError, "dim 0 ", "a whole number from 32 to 96"),
    Case("more dimensions than there are", encode("a", dim=97), InputError, "dim 97 ", "a whole number from 32 to 96"),
    Case("int8 without ranges", encode("a", dtype="int8"), InputError, "'int8'", "ranges=calibration_ranges(sample)"),
    Case(
        "ranges that are words",
        encode("a", dtype="int8", ranges=["low", "high"]),
        InputError,
        "'low'",
        "calibration_ranges(sample)",
    ),
    Case(
        "ranges of other dimensions",
        encode("a", dtype="int8", ranges=np.zeros((2, 3))),
        InputError,
        "(2, 3)",
        "calibration_ranges(sample)",
    ),
    Case("a range that falls", falling_ranges, InputError, "dimension 7", "calibration_ranges(sample)"),
    Case("an unknown activation", predict(activation="softmax"), InputError, "'softmax'", "choose one of sigmoid"),
    Case(
        "the best none",
        lambda world: world.reranker().rank("query", ["a"], top_k=0),
        InputError,
        "top_k 0 ",
        "a whole number from 1 on, or None for all",
    ),
    Case("an option of another library", encode("a", truncate_dim=8), TypeError, "'truncate_dim'", "use dim="),
    Case("an option of the other method", encode("a", threads=1), TypeError, "'threads'", "threads= of Embedder()"),
    Case("an option that nothing has", predict(colour=1), TypeError, "'colour'", "it takes instruction, separator"),
    Case("an option with a slip of the pen", load(precison="fp32"), TypeError, "'precison'", "use precision="),
    Case("neither true nor false", encode("a", normalize=None), TypeError, "NoneType None", "make it True or False"),
    Case("CUDA graphs by number", load(cuda_graphs=1), TypeError, "cuda_graphs is int 1", "make it True or False"),
    Case("numpy's float64", encode("a", dtype=np.float64), InputError, "numpy.float64", "choose one of float32"),
    Case("a name that quoit has not", lambda _: cast("Any", quoit).Encoder, AttributeError, "'Encoder'", "Embedder"),
    Case(
        "a version of sources alone", version_of_sources, AttributeError, "quoit is not installed", "`pip install` it"
    ),
    Case("no threads", load(threads=0), InputError, "threads 0 ", "a whole number from 1 to 1024"),
    Case("CUDA graphs on a CPU", load(cuda_graphs=True), InputError, "cuda_graphs True ", "leave it out, or use"),
    Case("more workers than threads", load(threads=2, workers=3), InputError, "workers 3 ", "from 1 to 2"),
    Case("batches of no tokens", load(batch_tokens=0), InputError, "batch_tokens 0 ", "a whole number from 1"),
    Case(
        "a full disk",
        write_beyond_a_limit,
        InputError,
        "/out.jsonl: File too large; it needs 5,013 bytes or more",
        "make room there",
    ),
    Case("a link to itself", write_to_a_link("out.jsonl"), InputError, "/out.jsonl is a symbolic link", "name another"),
    Case("a device as output", write_to_a_link("/dev/null"), InputError, "/out.jsonl is a device", "name another file"),
    Case(
        "no folder for tuning files",
        Command("quoit", bench_without_a_cache),
        InputError,
        "/cache",
        "name a file with --output",
    ),
    Case(
        "a name that quoit does not have",
        lambda world: getattr(quoit, "Embeder"),  # noqa: B009
        AttributeError,
        "'Embeder'",
        "it has ArtifactError, ComputeError, Embedder, ",
    ),
    Case("no candidates", Command("quoit", rank_arguments("--candidates", "0")), InputError, "--candidates 0", "use"),
    Case(
        "a file as cache",
        Command("quoit", search_with_a_file_as_cache),
        InputError,
        "/cache is a file",
        "name a folder",
    ),
    Case("no results", Command("quoit", rank_arguments("--top", "0")), InputError, "--top 0", "use a number from 1"),
    Case(
        "ranges that cannot be read",
        Command("quoit", embed_with_ranges),
        InputError,
        "/ranges.npy is no readable .npy file",
        "make it with calibration_ranges",
    ),
    Case(
        "no artifact named",
        Command("quoit", search_without_a_model),
        InputError,
        "no artifact was named",
        "use --model FOLDER, or set QUOIT_MODEL",
    ),
]

ARTIFACTS = [
    Case(
        "a reranker opened as an embedder",
        lambda world: Embedder(world.sources.reranker),
        ArtifactError,
        "/reranker is made for rerank",
        "open it with quoit.Reranker",
    ),
    Case(
        "an embedder opened as a reranker",
        lambda world: Reranker(world.sources.artifact),
        ArtifactError,
        "/artifact is made for embedding",
        "open it with quoit.Embedder",
    ),
    Case("a precision it lacks", load(precision="fp16"), ArtifactError, "no fp16 variant", "--precision fp16"),
    Case(
        "a rejected precision",
        with_manifest(lambda found: reject(found, "int8"), "int8"),
        ArtifactError,
        "cosine to fp32 on held-out texts least 0.50000, below 0.985 and mean 0.75000, below 0.995",
        "use another precision of fp32",
    ),
    Case(
        "a rejected precision, and no other",
        with_manifest(lambda found: reject(found, "int8", "fp32"), "int8"),
        ArtifactError,
        "the int8 variant of ",
        "; make a new export",
    ),
    Case(
        "no precision that was accepted",
        with_manifest(lambda found: reject(found, "int8", "fp32"), None),
        ArtifactError,
        "/artifact has no variant that passed",
        "export it again",
    ),
    Case(
        "a file outside the folder",
        with_manifest(lambda found: found["tokenizer"].update(path="../tokenizer.json")),
        ArtifactError,
        "'../tokenizer.json'",
        "do not use this artifact",
    ),
    Case(
        "a file far outside the folder",
        with_manifest(lambda found: found["tokenizer"].update(path=f"../{LONG}")),
        ArtifactError,
        "'../xxx",
        "do not use this artifact",
    ),
    Case(
        "a missing file",
        with_file("fp32/model.onnx.data", Path.unlink),
        ArtifactError,
        "/fp32/model.onnx.data is missing",
        "export the artifact again",
    ),
    Case(
        "a file of another size",
        with_file(TOKENIZER, lambda file: file.write_bytes(b"{}")),
        ArtifactError,
        "/tokenizer.json has 2 bytes",
        "copy or export the artifact again",
    ),
    Case(
        "a damaged file",
        with_file("fp32/model.onnx.data", flip_a_bit),
        ArtifactError,
        "/fp32/model.onnx.data is damaged",
        "copy or export the artifact again",
    ),
    Case(
        "a query of other bytes",
        Command("quoit", lambda world: ["similarity", "caf\udce9", world.write("a.txt", "text"), "-m", "absent"]),
        InputError,
        "the query 'caf\\udce9' has bytes that are not utf-8",
        "set LC_ALL to a UTF-8 locale",
    ),
    Case(
        "no folder",
        Command("quoit", lambda world: ["info", str(world.folder / "absent")]),
        ArtifactError,
        "/absent is not a folder",
        "make it with `quoit-export CHECKPOINT /",
    ),
    Case(
        "a folder that is no artifact",
        Command("quoit", lambda world: ["doctor", str(world.sources.checkpoint)]),
        ArtifactError,
        "/checkpoint has no quoit.json",
        "make one with `quoit-export /",
    ),
    Case(
        "a manifest too large",
        with_file(MANIFEST, lambda file: file.write_text(" " * (MAX_MANIFEST_BYTES + 1))),
        ArtifactError,
        "/quoit.json is larger than 1,048,576 bytes",
        "export the artifact again",
    ),
    Case(
        "an older format",
        with_fields(format=1),
        ArtifactError,
        "format 1, ",
        "export the artifact again with `quoit-export CHECKPOINT /",
    ),
    Case(
        "a newer format",
        with_fields(format=FORMAT + 1),
        ArtifactError,
        f"format {FORMAT + 1}, ",
        "upgrade with `pip install --upgrade quoit`",
    ),
    Case(
        "a field of a newer quoit",
        with_file(MANIFEST, add_a_field_of_the_future),
        ArtifactError,
        "says what this quoit does not know: Object contains unknown field `rows_in_two_passes`",
        "upgrade with `pip install --upgrade quoit`",
    ),
    Case(
        "a format that is a long text",
        with_fields(format=LONG),
        ArtifactError,
        "format 'xxx",
        "export the artifact again",
    ),
    Case(
        "half a manifest",
        with_file(MANIFEST, lambda file: file.write_bytes(file.read_bytes()[:100])),
        ArtifactError,
        "/quoit.json is damaged",
        "export the artifact again",
    ),
    Case(
        "a manifest that was edited",
        with_fields(max_tokens=100),
        ArtifactError,
        "/quoit.json is damaged: its sha256 is '",
        "copy or export the artifact again",
    ),
    Case(
        "an unknown field in several lines",
        with_fields(**{"first\nsecond": 1}),
        ArtifactError,
        "/quoit.json is damaged",
        "export the artifact again",
    ),
    Case(
        "an unknown field with a long name",
        with_fields(**{LONG: 1}),
        ArtifactError,
        "/quoit.json is damaged",
        "export the artifact again",
    ),
]

RUNNING = [
    Case("an unknown precision", load(precision="fp8"), InputError, "'fp8'", "choose one of fp32, fp16, bf16, int8"),
    Case("an unknown provider", load(provider="tpu"), InputError, "'tpu'", "choose one of cpu, cuda, auto"),
    Case("CUDA that is not offered", cuda_that_is_not_offered, ProviderError, "'cuda'", "pip install 'quoit[cuda]'"),
    Case(
        "CUDA that does not load",
        cuda_that_does_not_load,
        ProviderError,
        "CUDAExecutionProvider did not load ",
        "or use provider='cpu'",
    ),
    Case(
        "CUDA without its libraries",
        cuda_without_its_libraries,
        ProviderError,
        "CUDAExecutionProvider cannot run here: ",
        "pip install 'quoit[cuda]'`, or use provider='cpu'",
    ),
    Case(
        "a precision that CUDA does not run",
        cuda_with_fp32,
        ArtifactError,
        "the fp32 variant of ",
        "--precision fp16`, or use provider='cpu'",
    ),
    Case("no driver", no_driver, ProviderError, "there is no nvidia-smi", "install one"),
    Case("no device", no_device, ProviderError, "no device '0': No devices were found", "check the driver"),
    Case(
        "no onnxruntime",
        without_onnxruntime,
        ProviderError,
        "onnxruntime cannot be imported",
        "pip install 'quoit[cpu]'",
    ),
    Case(
        "int8 that saturates",
        measure_where_int8_saturates,
        ProviderError,
        "int8 can only be measured on a CPU that sums int8 products exactly",
        "export it on another machine",
    ),
    Case(
        "a variant without a graph",
        with_manifest(claim_a_graph),
        ArtifactError,
        "has no cpu graph, which provider 'cpu' runs",
        "export the artifact again",
    ),
    Case(
        "a graph with other inputs",
        graph_of_another_kind,
        ArtifactError,
        "/fp16/model.onnx takes input_ids, last_row, longest_row, rectangle, row_lengths, where attention_index, ",
        "export the artifact again with this version",
    ),
    Case("a graph that is no model", no_model, ArtifactError, "/fp32/model.onnx", "export the artifact again"),
    Case(
        "a vector that is not finite",
        lambda world: Embedder(world.sources.overflowing, precision="fp32", provider="cpu").encode("a"),
        ComputeError,
        "row 0 of 1",
        "`quoit doctor`",
    ),
    Case(
        "a vector beyond float16",
        encode_beyond_float16,
        ComputeError,
        "a vector has the value ",
        "normalise it, or use dtype='float32'",
    ),
    Case(
        "a score that is not finite",
        lambda world: Reranker(world.sources.overflowing_reranker, precision="fp32", provider="cpu").rank("a", ["b"]),
        ComputeError,
        "for pair 0 of 1",
        "`quoit doctor`",
    ),
]

EXPORTS = [
    Case("the checkpoint as output", overwrite_the_checkpoint, ExportError, "holds the checkpoint", "name another"),
    Case(
        "int8 below its floor",
        export_poor_int8,
        ParityError,
        "int8: cosine to fp32 on held-out texts is ",
        "Leave out --precision int8",
    ),
    Case("a folder in use", export_into_something_else, ExportError, "something else, 'notes.txt'", "move it, or name"),
    Case("no manifest", export_over_a_damaged_manifest, ExportError, "/out holds something else", "use --overwrite"),
    Case(
        "no artifact to replace",
        export_over_half_an_artifact_without_manifest,
        ExportError,
        "/out has no quoit.json",
        "name another folder",
    ),
    Case(
        "an ordinary token as an added one",
        replaced("tokenizer_config.json", json.dumps({"added_tokens_decoder": {"97": {"content": "a"}}})),
        CheckpointError,
        "adds the token 'a', which is an ordinary one",
        "save the tokenizer again",
    ),
    Case(
        "an added token with another flag",
        replaced(
            "tokenizer_config.json",
            json.dumps({"added_tokens_decoder": {"256": {"content": "<|endoftext|>", "rstrip": True}}}),
        ),
        CheckpointError,
        "sets rstrip of the token '<|endoftext|>' to True",
        "save the tokenizer again",
    ),
    Case(
        "an added token left out",
        with_checkpoint(leave_an_added_token_out),
        CheckpointError,
        "leaves '[MORE]' out of added_tokens_decoder",
        "save the tokenizer again",
    ),
    Case(
        "an ordinary token as a special one",
        replaced("tokenizer_config.json", json.dumps({"extra_special_tokens": ["a"]})),
        CheckpointError,
        "names 'a' as extra_special_tokens",
        "save the tokenizer again",
    ),
    Case(
        "a special token in a prompt",
        replaced("config_sentence_transformers.json", json.dumps({"prompts": {"query": "<|endoftext|>"}})),
        CheckpointError,
        "has the special token '<|endoftext|>' in a prompt",
        "remove it if",
    ),
    Case(
        "a tokenizer with chance in it",
        with_checkpoint(drop_tokens_by_chance),
        CheckpointError,
        "sets dropout of its model to 0.1",
        "use Qwen3's tokenizer files",
    ),
    Case("a folder below a file", export_below_a_file, ExportError, "/file cannot be made", "name another folder"),
    Case("no room at all", export_where_nothing_fits, ExportError, "/.out.partial: File too large", "make room, or"),
    Case("a file for a folder", export_over_a_file, ExportError, "/out is a file", "name another folder"),
    Case("the current folder", export_over_the_current_folder, ExportError, "/out is the current", "name another"),
    Case("no torch", verify_without_torch, ExportError, "--verify needs torch", "pip install 'quoit[verify]'"),
    Case("half an artifact", export_into_half_an_artifact, ExportError, "/out is incomplete", "use --overwrite"),
    Case(
        "an artifact of another checkpoint",
        export_into_another_artifact,
        ExportError,
        "/out holds an artifact of rerank-checkpoint",
        "replace it with --overwrite",
    ),
    Case("a disk too small", export_to_a_full_disk, ExportError, "has 12,345 bytes free", "free some, or name"),
    Case("a disk that fills up", export_to_a_disk_that_fills_up, ExportError, "/fp32: ", "make room"),
    Case(
        "values that are not finite",
        lambda world: world.export("fp32", checkpoint=world.sources.overflowing_checkpoint),
        ParityError,
        "first in layers.1.mlp",
        "use another precision",
    ),
    Case(
        "values beyond float16",
        export_values_beyond_float16,
        ParityError,
        "fp16 gives values that are not finite, first in layers.0.self_attn",
        "use another precision",
    ),
    Case(
        "values that are not finite while int8 is made",
        lambda world: world.export("int8", checkpoint=world.sources.overflowing_checkpoint),
        ParityError,
        "first in layers.1.mlp",
        "use another precision",
    ),
    Case(
        "too few texts to make int8 with",
        Command(
            "quoit-export",
            lambda world: [
                *(str(world.sources.checkpoint), str(world.folder / "out")),
                *("--calibrate", world.write("few.txt", "one\n\ntwo\none\n")),
            ],
        ),
        ExportError,
        "few.txt has 2 different texts",
        "add some",
    ),
    Case(
        "weights beyond float16",
        export_beyond_float16,
        ExportError,
        "layers.0.mlp.gate_proj.weight has values up to 99840",
        "leave that precision out of --precision",
    ),
    Case("a forked child", run_in_another_process, ProviderError, "process 1, a fork of it", "load the model after"),
    Case(
        "verification without transformers",
        verify_without_transformers,
        ParityError,
        "--verify needs torch and transformers",
        "pip install 'quoit[verify]'",
    ),
]

CONFIGURATIONS = [
    Case(
        "no configuration",
        Command("quoit-export", lambda world: [str(world.folder), str(world.folder / "out")]),
        CheckpointError,
        "/config.json is missing",
        "fetch it again",
    ),
    Case("half a configuration", replaced("config.json", "{"), CheckpointError, "/config.json", "fetch the checkpoint"),
    Case("a list of settings", replaced("config.json", "[]"), CheckpointError, "/config.json", "fetch the checkpoint"),
    Case("another model", with_config(model_type="llama"), CheckpointError, "model_type 'llama'", "use one of those"),
    Case("a model's long name", with_config(model_type=LONG), CheckpointError, "model_type 'xxx", "use one of those"),
    Case("RoPE as a word", with_config(rope_scaling="linear"), CheckpointError, "rope_scaling to 'linear'", "correct"),
    Case(
        "another activation",
        with_config(hidden_act="gelu"),
        CheckpointError,
        "hidden_act to 'gelu'",
        "use the original Qwen3 weights",
    ),
    Case(
        "a quantized checkpoint",
        with_config(quantization_config=SETTINGS),
        CheckpointError,
        "quantization_config to {'quant_method': 'awq'",
        "use the original Qwen3 weights",
    ),
    Case(
        "RoPE scaling",
        with_config(rope_scaling={"rope_type": "yarn", "factor": 4.0}),
        CheckpointError,
        "'yarn' RoPE scaling",
        "set it to 'default'",
    ),
    Case("a size that is a word", with_config(hidden_size="96"), CheckpointError, "hidden_size='96'", "correct it"),
    Case("a size that is long", with_config(hidden_size=LONG), CheckpointError, "hidden_size='xxx", "correct it"),
    Case("no theta", with_config(rope_parameters=None), CheckpointError, "rope_theta=None", "correct it"),
    Case(
        "heads that do not divide",
        with_config(num_key_value_heads=3),
        CheckpointError,
        "num_key_value_heads (3)",
        "correct",
    ),
    Case(
        "no context length",
        with_config(max_position_embeddings=None),
        CheckpointError,
        "max_position_embeddings None",
        "set the context length",
    ),
    Case(
        "an open task",
        with_checkpoint(leave_the_task_open),
        CheckpointError,
        "architectures []",
        "use --task embedding, or --task rerank",
    ),
    Case("half the modules", replaced("modules.json", "["), CheckpointError, "/modules.json", "fetch the checkpoint"),
    Case("modules of words", replaced("modules.json", "[1]"), CheckpointError, "/modules.json", "fetch the checkpoint"),
    Case(
        "a dense module",
        replaced("modules.json", '[{"type": "sentence_transformers.models.Dense"}]'),
        CheckpointError,
        "a Dense module",
        "use a checkpoint of Transformer, Pooling and Normalize",
    ),
    Case(
        "a pooling outside the folder",
        replaced(
            "modules.json",
            '[{"type": "sentence_transformers.models.Transformer"}, '
            '{"type": "sentence_transformers.models.Pooling", "path": "../1_Pooling"}]',
        ),
        CheckpointError,
        "'../1_Pooling'",
        "do not use it",
    ),
    Case(
        "another pooling",
        replaced("1_Pooling/config.json", '{"pooling_mode_mean_tokens": true}'),
        CheckpointError,
        "pooling_mode_mean_tokens",
        "use a checkpoint",
    ),
    Case(
        "a pooling of many settings",
        replaced("1_Pooling/config.json", json.dumps({"pooling_mode": "mean", "settings": LONG})),
        CheckpointError,
        "'mean'",
        "use a checkpoint",
    ),
    Case(
        "a prompt that is a number",
        replaced("config_sentence_transformers.json", '{"prompts": {"query": 5}}'),
        CheckpointError,
        "{'query': 5}",
        "correct it",
    ),
    Case(
        "many prompts, and one a number",
        replaced("config_sentence_transformers.json", json.dumps({"prompts": {"query": 5, "document": LONG}})),
        CheckpointError,
        "'query': 5",
        "correct it",
    ),
    Case(
        "no end token",
        with_tokenizer(lambda found: setattr(found, "post_processor", processors.ByteLevel())),
        CheckpointError,
        "appends 0 tokens",
        "use its tokenizer.json",
    ),
    Case(
        "no token for yes",
        rerank_without_a_token_for_yes,
        CheckpointError,
        "3 tokens of 'yes'",
        "use Qwen3-Reranker's tokenizer.json",
    ),
    Case(
        "no pooling settings",
        replaced("1_Pooling/config.json", None),
        CheckpointError,
        "config.json is",
        "fetch it again",
    ),
    Case("no tokenizer in a checkpoint", replaced(TOKENIZER, None), CheckpointError, "/tokenizer.json", "fetch it"),
    Case(
        "more tokens than embeddings",
        with_tokenizer(lambda found: found.add_tokens([f"word{number}" for number in range(300)])),
        CheckpointError,
        "token ids up to 556",
        "fetch",
    ),
    Case("an empty tokenizer", replaced(TOKENIZER, "{}"), CheckpointError, "/tokenizer.json is no", "fetch it again"),
    Case("an unknown key", with_config(extra_scale=2), CheckpointError, "extra_scale to 2", "remove it from the file"),
    Case("an unknown key that is long", with_config(**{LONG: LONG}), CheckpointError, "sets xxx", "remove it from the"),
    Case(
        "attention both ways", with_config(is_causal=False), CheckpointError, "is_causal to False", "use the original"
    ),
    Case(
        "no Pooling",
        replaced("modules.json", '[{"path": "", "type": "sentence_transformers.models.Transformer"}]'),
        CheckpointError,
        "has the modules Transformer",
        "use a checkpoint of those",
    ),
    Case(
        "modules.json is lost",
        with_checkpoint(lose_the_modules),
        CheckpointError,
        "/modules.json is missing beside config_sentence_transformers.json",
        "fetch the checkpoint again",
    ),
    Case("one module alone", open_a_module, CheckpointError, "is one module of /", "export /"),
    Case(
        "a default that is no prompt",
        replaced("config_sentence_transformers.json", json.dumps({"default_prompt_name": LONG})),
        CheckpointError,
        "default_prompt_name 'xxx",
        "set default_prompt_name to null",
    ),
    Case(
        "another similarity",
        replaced("config_sentence_transformers.json", '{"similarity_fn_name": "manhattan"}'),
        CheckpointError,
        "similarity_fn_name 'manhattan'",
        "set it to 'cosine'",
    ),
    Case(
        "short vectors",
        replaced("config_sentence_transformers.json", '{"truncate_dim": 32}'),
        CheckpointError,
        "truncate_dim 32",
        "give dim=32",
    ),
    Case(
        "a limit of one token",
        replaced("sentence_bert_config.json", '{"max_seq_length": 1}'),
        CheckpointError,
        "max_seq_length 1",
        "set it to a number of tokens",
    ),
    Case(
        "a tokenizer's limit that is a word",
        replaced("tokenizer_config.json", '{"model_max_length": "64"}'),
        CheckpointError,
        "model_max_length '64'",
        "set it to a number of tokens",
    ),
    Case(
        "a token that the tokenizer lacks",
        replaced("added_tokens.json", json.dumps({LONG: 300})),
        CheckpointError,
        "adds the token 'xxx",
        "save the tokenizer again",
    ),
    Case(
        "a prompt of a special token that the tokenizer lacks",
        replaced("config_sentence_transformers.json", '{"prompts": {"query": "<|im_end|>"}}'),
        CheckpointError,
        "lacks '<|im_end|>'",
        "save the tokenizer again",
    ),
    Case(
        "texts cut at their beginning",
        with_tokenizer(lambda found: found.enable_truncation(9, direction="left")),
        CheckpointError,
        "truncation direction 'Left'",
        "set its truncation to null",
    ),
    Case(
        "another splitting",
        with_tokenizer(lambda found: setattr(found, "normalizer", normalizers.Lowercase())),
        CheckpointError,
        "otherwise than transformers' Qwen2Tokenizer",
        "use Qwen3's tokenizer.json",
    ),
    Case(
        "an embedding model as a reranker",
        Command(
            "quoit-export",
            lambda world: [str(world.sources.checkpoint), str(world.folder / "out"), "--task", "rerank"],
        ),
        CheckpointError,
        "--task rerank was asked for",
        "leave --task out",
    ),
    Case(
        "answers by one token", as_cross_encoder(false_token_id=None), CheckpointError, "false_token_id None", "use a"
    ),
    Case("answers beyond the model", as_cross_encoder(true_token_id=512), CheckpointError, "(512, 258)", "correct the"),
    Case(
        "a chat model's template",
        as_cross_encoder("{{ messages[0].content }}"),
        CheckpointError,
        "has no chat template that puts a query",
        "add the chat_template.jinja of Qwen3-Reranker",
    ),
    Case(
        "a CrossEncoder without settings",
        with_reranker(without_settings),
        CheckpointError,
        "transformer_task None",
        "save it with Qwen3-Reranker's chat_template.jinja",
    ),
    Case(
        "a template that melts into the text",
        with_reranker(join_the_template),
        CheckpointError,
        "/tokenizer.json makes one token from the end of the template's prefix",
        "begin the suffix with a special token",
    ),
    Case(
        "less than the template",
        with_reranker(lambda folder: put(folder / "tokenizer_config.json", '{"model_max_length": 9}')),
        CheckpointError,
        "limits pairs to 9 tokens",
        "raise max_seq_length",
    ),
]

CHECKPOINTS = [
    Case(
        "the score of an embedding model",
        lambda world: open_checkpoint(str(world.sources.checkpoint)).score_weight(),
        CheckpointError,
        "/checkpoint is for embedding",
        "export it with --task embedding",
    ),
    Case("weights lost while exporting", lose_the_weights, CheckpointError, "norm.weight from /", "fetch it again"),
    Case(
        "a tensor that is not finite",
        read_a_tensor_that_is_not_finite,
        CheckpointError,
        "norm.weight in /",
        "use another one",
    ),
    Case(
        "a folder's revision",
        Command(
            "quoit-export",
            lambda world: [str(world.sources.checkpoint), str(world.folder / "out"), "--revision", "main"],
        ),
        CheckpointError,
        "revision 'main'",
        "leave it out",
    ),
    Case(
        "no folder and no hub id",
        Command("quoit-export", lambda world: ["no/such/folder", str(world.folder / "out")]),
        CheckpointError,
        "no/such/folder is no folder",
        "check the spelling",
    ),
    Case("a path below a folder", open_below_a_folder, CheckpointError, "models/typo is no folder", "correct the path"),
    Case(
        "an artifact as a checkpoint",
        Command("quoit-export", lambda world: [str(world.sources.artifact), str(world.folder / "out")]),
        CheckpointError,
        "/artifact is an artifact already",
        "run it with `quoit info /",
    ),
    Case("an adapter", replaced("adapter_config.json", "{}"), CheckpointError, "a PEFT adapter", "merge_and_unload()"),
    Case("no weights", replaced(SHARD, None), CheckpointError, f"/{SHARD} is missing", "fetch it again"),
    Case("a tensor twice", with_checkpoint(with_tensor_twice), CheckpointError, "norm.weight in", "remove one of them"),
    Case("a prefix", with_checkpoint(with_prefix), CheckpointError, "the prefix 'module.'", "save `model.module`"),
    Case("a hub that is away", ask_a_hub_that_is_away, CheckpointError, "some/model", "check the id and the network"),
    Case("an index of nothing", with_index({"weight_map": []}), CheckpointError, f"/{INDEX}", "fetch the checkpoint"),
    Case(
        "a shard outside the folder",
        with_index({"weight_map": {"norm.weight": "../x.safetensors"}}),
        CheckpointError,
        "'../x.safetensors'",
        "do not use this checkpoint",
    ),
    Case(
        "a missing shard",
        with_index({"weight_map": {"norm.weight": "x.safetensors"}}),
        CheckpointError,
        "/x.safetensors is missing",
        "fetch it again",
    ),
    Case("a shard of words", replaced(SHARD, "no tensors"), CheckpointError, f"/{SHARD} is no", "fetch it again"),
    Case(
        "missing tensors",
        with_tensors(lambda found: found.pop("norm.weight")),
        CheckpointError,
        "lacks 1 of 24 tensors: norm.weight",
        "fetch it again",
    ),
    Case(
        "a tensor of another shape",
        with_config(intermediate_size=208),
        CheckpointError,
        "gate_proj.weight has shape [224, 96]",
        "fetch",
    ),
    Case(
        "a tensor of integers",
        with_tensors(lambda found: found.update({"norm.weight": np.ones(96, np.int8)})),
        CheckpointError,
        "norm.weight is stored as I8",
        "use the original weights",
    ),
    Case(
        "tensors of an adapter",
        with_tensors(lambda found: found.update({f"adapter{number}.lora": np.ones(4) for number in range(500)})),
        CheckpointError,
        "holds 500 tensors",
        "merge adapters into the weights",
    ),
]

TUNING = [
    Case("an unknown goal", load(tuned="cheapness"), InputError, "tuned 'cheapness'", "one of latency, throughput"),
    Case("nothing was tuned", Command("quoit", embed_untuned), InputError, "nothing was tuned", "`quoit bench "),
    Case(
        "another tuning's format",
        tuned_for(lambda found: found.update(format=9)),
        InputError,
        "format 9",
        "`quoit bench ",
    ),
    Case("no tuning at all", tuned_for(dict.clear), InputError, "is no tuning file", "`quoit bench "),
    Case(
        "another machine's tuning",
        tuned_for(lambda found: found["place"].update(processor=LONG)),
        InputError,
        "made for processor 'xxx",
        "`quoit bench ",
    ),
    Case(
        "a benchmark of no time",
        Command("quoit", bench_arguments("--seconds", "0")),
        InputError,
        "--seconds 0.0",
        "must be from 1 to",
    ),
    Case(
        "a benchmark of a few texts",
        Command("quoit", bench_arguments(texts=3)),
        InputError,
        "few.txt has 3 texts",
        "name a longer file",
    ),
]

CASES = [
    *TOKENS,
    *FILES,
    *DRAFTS,
    *TEXTS,
    *OPTIONS,
    *ARTIFACTS,
    *RUNNING,
    *EXPORTS,
    *CONFIGURATIONS,
    *CHECKPOINTS,
    *TUNING,
]
COMMANDS = [case for case in CASES if isinstance(case.trigger, Command)]


@dataclass(frozen=True)
class Outcome:
    """What a case raised, and where."""

    kind: type[BaseException] | None
    message: str
    site: Site | None


Run = Callable[[Case], Outcome]


def save_byte_checkpoint(folder: Path, *, overflows: bool = False) -> Path:
    model = make_model(**BYTE_SIZES)
    overflow(model, "", overflows=overflows)
    byte_tokenizer().save(str(folder.parent / TOKENIZER))
    return save_checkpoint(folder, folder.parent / TOKENIZER, model)


def save_byte_reranker(folder: Path, *, overflows: bool = False) -> Path:
    """Its tokenizer has a token for each answer, and appends nothing."""
    model = make_reranker(**BYTE_SIZES)
    overflow(model, "model.", overflows=overflows)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["yes", "no"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save(str(folder.parent / TOKENIZER))
    return save_rerank_checkpoint(folder, folder.parent / TOKENIZER, model)


def overflow(model: Any, prefix: str, *, overflows: bool) -> None:
    """Weights that are finite, and whose product is not."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in ("up_proj", "down_proj") if overflows else ():
            parameters[f"{prefix}layers.1.mlp.{name}.weight"].mul_(1e30)


def write_ungated(checkpoint_folder: Path, folder: Path) -> Path:
    """An artifact whose fp32 variant nobody measured."""
    checkpoint = open_checkpoint(str(checkpoint_folder))
    staging = Staging.open(folder, checkpoint, bare_manifest(checkpoint))
    staging.write_variant(checkpoint, "fp32")
    manifest = bare_manifest(checkpoint)
    manifest.variants["fp32"] = msgspec.structs.replace(staging.partial.variants["fp32"], accepted=True)
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    checkpoint = save_byte_checkpoint(folder / "checkpoint")
    rerank_checkpoint = save_byte_reranker(folder / "rerank-checkpoint")
    overflowing = save_byte_checkpoint(folder / "overflowing-checkpoint", overflows=True)
    overflowing_reranker = save_byte_reranker(folder / "overflowing-rerank-checkpoint", overflows=True)
    publish(open_checkpoint(str(checkpoint)), Request(folder / "artifact", ("fp32", "int8")))
    publish(open_checkpoint(str(checkpoint)), Request(folder / "half", ("fp32", "fp16")))
    publish(open_checkpoint(str(rerank_checkpoint)), Request(folder / "reranker", ("fp32",)))
    return Sources(
        checkpoint=checkpoint,
        artifact=folder / "artifact",
        half=folder / "half",
        rerank_checkpoint=rerank_checkpoint,
        reranker=folder / "reranker",
        overflowing_checkpoint=overflowing,
        overflowing=write_ungated(overflowing, folder / "overflowing"),
        overflowing_reranker=write_ungated(overflowing_reranker, folder / "overflowing-reranker"),
    )


@pytest.fixture(scope="module")
def run(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What a case raises; each happens once."""

    @cache
    def outcome(case: Case) -> Outcome:
        with pytest.MonkeyPatch.context() as patch:
            try:
                case.trigger(World(tmp_path_factory.mktemp("case"), patch, sources))
            except Exception as error:
                return Outcome(type(error), str(error), origin(error.__traceback__))
        return Outcome(None, "", None)

    return outcome


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_error_names_the_value_and_the_next_step(run: Run, case: Case) -> None:
    found = run(case)
    assert found.kind is case.error, found
    assert found.site is not None, "the error came from no raise statement of ours"
    assert case.value in found.message
    assert case.step in found.message
    assert len(found.message.splitlines()) == 1
    assert len(found.message) < LONGEST_MESSAGE
    assert not re.search(r"Traceback|0x[0-9a-f]{6,}", found.message), "names an internal"


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: case.name)
def test_a_command_says_it_in_one_line_and_exits_with_2(
    case: Case, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(case.trigger, Command)
    world = World(tmp_path, monkeypatch, sources)
    capfd.readouterr()
    code = case.trigger.main(world)
    printed, report = capfd.readouterr()
    assert (code, printed) == (2, "")
    assert report.startswith(f"{case.trigger.program}: ")
    assert report.endswith("\n")
    assert len(report.splitlines()) == 1
    assert case.value in report
    assert case.step in report


def test_both_programs_are_among_the_commands() -> None:
    programs = [case.trigger.program for case in COMMANDS if isinstance(case.trigger, Command)]
    assert set(programs) == {"quoit", "quoit-export"}


def test_every_error_that_is_raised_has_a_case(run: Run) -> None:
    fired = {run(case).site for case in CASES}
    missing = {
        f"{site.file}:{lines.start} {site.function}, raise {site.number}"
        for site, lines in raise_sites().items()
        if site not in fired and site not in EXCLUDED
    }
    assert not missing, "errors without a case:\n" + "\n".join(sorted(missing))
    assert EXCLUDED.keys() <= raise_sites().keys() - fired, "excluded in vain"
