"""Errors of the folder and the weights of a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from messages.harness import SHARD, Case, Command, Trigger, World
from messages.triggers import Document, Tensors, change_tensors, replaced, with_checkpoint, with_config
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import CheckpointError

INDEX = "model.safetensors.index.json"


def with_tensors(change: Callable[[Tensors], object]) -> Trigger:
    return with_checkpoint(lambda folder: change_tensors(folder, change))


def with_index(document: Document) -> Trigger:
    """Opening a copy of the checkpoint with an index of shards, and not in a single file."""

    def change(folder: Path) -> None:
        (folder / SHARD).unlink()
        (folder / INDEX).write_text(json.dumps(document))

    return with_checkpoint(change)


def with_tensor_twice(folder: Path) -> object:
    return change_tensors(folder, lambda found: found.update({"model.norm.weight": np.ones(96, np.float32)}))


def with_prefix(folder: Path) -> None:
    def prefix(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[f"module.{name}"] = tensors.pop(name)

    change_tensors(folder, prefix)


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


CASES = [
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
