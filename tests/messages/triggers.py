"""Triggers that several areas share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from messages.harness import SHARD, Trigger, World
from quoit import Embedder
from quoit.artifact import Manifest, Precision, read_artifact, write_manifest
from quoit_export.checkpoint.checkpoint import open_checkpoint
from support import edit_json

Tensors = dict[str, NDArray[Any]]
Document = dict[str, Any]


def encode(text: Any, **options: Any) -> Trigger:
    return lambda world: world.embedder().encode(text, **options)


def predict(*pairs: Any, **options: Any) -> Trigger:
    return lambda world: world.reranker().predict(pairs, **options)


def load(**options: Any) -> Trigger:
    """Loading the sound artifact with some options."""
    return lambda world: Embedder(world.sources.artifact, **{"precision": "fp32", "provider": "cpu", **options})


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


def rank_arguments(*more: str) -> Callable[[World], list[str]]:
    """`quoit search` over a file, with more arguments."""

    def arguments(world: World) -> list[str]:
        file = world.write("texts.txt", "a\nb\n")
        return ["search", "query", file, "-m", str(world.sources.artifact), "--no-cache", *more]

    return arguments
