"""Errors of providers and sessions, and of results that are not finite."""

import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import onnxruntime

from messages.harness import Case, World
from messages.sources import write_ungated
from messages.triggers import Document, Tensors, change_tensors, edit_manifest, load, with_manifest
from quoit import ArtifactError, ComputeError, Embedder, InputError, ProviderError, Reranker
from quoit.artifact import TOKENIZER
from quoit.engine.layouts import find_layout
from quoit.ort.cuda import free_bytes
from quoit_export.build.staging import GRAPHS


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
    return Embedder(folder, precision="fp32", provider="cpu", kernels=False)


def native_kernels_switched_off(world: World) -> object:
    """Asked for where the environment switches them off."""
    world.patch.setenv("QUOIT_KERNELS", "0")
    return Embedder(world.sources.artifact, precision="fp32", provider="cpu", kernels=True)


def graph_of_another_kind(world: World) -> object:
    """CUDA's graph where the CPU's belongs, with the right hash."""
    folder = world.copy(world.sources.half)
    shutil.copyfile(folder / "fp16" / GRAPHS["cuda"], folder / "fp16" / GRAPHS["cpu"])

    def change(document: Document) -> None:
        cpu, cuda = (document["variants"]["fp16"]["graphs"][name]["file"] for name in ("cpu", "cuda"))
        cpu.update(cuda | {"path": cpu["path"]})

    edit_manifest(folder, change)
    return Embedder(folder, precision="fp16", provider="cpu")


def encode_after_close(world: World) -> object:
    with world.embedder() as embedder:
        pass
    return embedder.encode("a")


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


def encode_beyond_float16(world: World) -> object:
    """Only a vector that is not normalised can be."""

    def change(tensors: Tensors) -> None:
        tensors["norm.weight"] *= 2**20

    checkpoint = change_tensors(world.copy(world.sources.checkpoint), change)
    embedder = Embedder(write_ungated(checkpoint, world.folder / "large"), precision="fp32", provider="cpu")
    return embedder.encode("a", normalize=False, dtype="float16")


def run_in_another_process(world: World) -> object:
    """A child cannot tell this table of its error: `test_fork_guard` forks."""
    embedder = world.embedder()
    world.patch.setattr(os, "getpid", lambda: 1)
    return embedder.encode("text")


CASES = [
    Case("a closed model", encode_after_close, InputError, "the model was closed", "load it again"),
    Case("an unknown layout", lambda _: find_layout("ragged"), ArtifactError, "the layout 'ragged'", "upgrade quoit"),
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
    Case(
        "an unknown layout",
        lambda _: find_layout("triangular"),
        ArtifactError,
        "the layout 'triangular' is unknown",
        "upgrade quoit, or export the artifact again",
    ),
    Case(
        "native kernels that are switched off",
        native_kernels_switched_off,
        ProviderError,
        "QUOIT_KERNELS=0",
        "set it to 1, or leave kernels=True out",
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
    Case("a forked child", run_in_another_process, ProviderError, "process 1, a fork of it", "load the model after"),
]
