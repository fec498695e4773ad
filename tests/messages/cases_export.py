"""Errors of an export: the folder it writes, and variants that are not good enough."""

import resource
import shutil
import sys
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from filelock import FileLock

from messages.harness import Case, Command, World
from messages.sources import BYTE_SIZES
from messages.triggers import Tensors, change_tensors
from quoit.artifact import MANIFEST, TOKENIZER, read_artifact
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import ExportError, ParityError
from quoit_export.export import Request, publish
from quoit_export.verify.parity import held_out, transformers_answers


def export_while_another_does(world: World) -> object:
    with FileLock(world.folder / ".out.lock"):
        return world.export("fp32")


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


def export_to_a_long_name(world: World) -> object:
    """The folder's name is no longer than a file system allows, and that of the hidden folder beside it is."""
    return publish(open_checkpoint(str(world.sources.checkpoint)), Request(world.folder / ("a" * 248), ("fp32",)))


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


CASES = [
    Case("an artifact in use", export_while_another_does, ExportError, "/out;", "wait for it, or name another"),
    Case("the checkpoint as output", overwrite_the_checkpoint, ExportError, "holds the checkpoint", "name another"),
    Case(
        "int8 below its floor",
        export_poor_int8,
        ParityError,
        "int8: cosine to fp32 on held-out texts least ",
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
    Case("a folder below a file", export_below_a_file, ExportError, "/file cannot be made", "name another folder"),
    Case(
        "no room at all",
        export_where_nothing_fits,
        ExportError,
        "/.out.partial: File too large; it needs ",
        "make room there, and the same command goes on",
    ),
    Case("too long a name", export_to_a_long_name, ExportError, ".partial: File name too long", "name another folder"),
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
    Case(
        "a disk that fills up",
        export_to_a_disk_that_fills_up,
        ExportError,
        "/.out.partial/fp32: No space left on device; it needs ",
        "make room there, and the same command goes on",
    ),
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
    Case(
        "verification without transformers",
        verify_without_transformers,
        ParityError,
        "--verify needs torch and transformers",
        "pip install 'quoit[verify]'",
    ),
]
