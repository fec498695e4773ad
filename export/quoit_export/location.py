"""Where a checkpoint is: a local folder or a hub snapshot; and what a folder is that lacks a checkpoint's files.

This module knows files by their names alone.
"""

import re
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from quoit.artifact import MANIFEST, is_file
from quoit.errors import brief
from quoit_export.errors import CheckpointError

HUB_FILES = ("*.json", "*.safetensors", "*.jinja")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PATH_BEGINS = (".", "/", "~")
ADAPTER = "adapter_config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def locate(name: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder of a checkpoint, and the revision of the hub's repository.

    Raises:
        CheckpointError: there is no such folder or repository, or the folder is no checkpoint at all.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{name} is a local folder, which has no revision {revision!r}; leave it out")
    else:
        _check_hub_id(name)
        folder = _fetch(name, revision)
        revision = folder.name
    if is_file(folder / MANIFEST):
        raise CheckpointError(
            f"{name} is an artifact already, made by quoit-export; run it with `quoit info {name}`, or export the "
            "checkpoint that it was made from"
        )
    return folder, revision


def _check_hub_id(name: str) -> None:
    """A name whose parent is a folder here is a path; so is one that begins as a path does."""
    path, reason = Path(name), ""
    if HUB_ID.fullmatch(name) and not name.startswith(PATH_BEGINS):
        if not path.parent.is_dir():
            return
        reason = f" (the folder {path.parent} exists, and has no folder {path.name})"
    if is_file(path):
        reason = " (it is a file; name the folder that it lies in)"
    raise CheckpointError(
        f"{name} is no folder, and no hub id like Qwen/Qwen3-Embedding-0.6B{reason}; check the spelling"
    )


def _fetch(name: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"cannot fetch {name} from the hub ({type(error).__name__}: {reason}); check the id and the "
            "network, or give the path of a local folder"
        ) from error


def check_no_adapter(folder: Path) -> None:
    """The folder holds no adapter, which transformers and sentence-transformers would apply to the weights.

    Raises:
        CheckpointError: it does.
    """
    if is_file(folder / ADAPTER):
        raise CheckpointError(
            f"{folder} holds a PEFT adapter ({ADAPTER}); merge it into its base model with peft's merge_and_unload(), "
            f"and save that without {ADAPTER}"
        )


def explain_missing_config(folder: Path) -> str:
    """What a folder without config.json is, and the next step."""
    inner = sorted(file.parent for file in folder.glob("*/config.json") if is_file(file.with_name("tokenizer.json")))
    if inner:
        names = brief(", ".join(path.name for path in inner), 80)
        return f"{folder} has no config.json, and its folder {names} has one; name that: `quoit-export {inner[0]} OUT`"
    return _explain(folder) or (
        f"{folder / 'config.json'} is missing; {folder} is not a complete checkpoint, fetch it again or name another "
        "folder"
    )


def explain_missing_weights(folder: Path) -> str:
    """What a folder without model.safetensors is, and the next step."""
    return _explain(folder) or (
        f"{folder / SINGLE} is missing; {folder} is not a complete checkpoint, fetch it again or name another folder"
    )


def explain_missing_tokenizer(folder: Path) -> str:
    """What a folder without tokenizer.json is, and the next step."""
    if is_file(folder / "vocab.json") and is_file(folder / "merges.txt"):
        return (
            f"{folder} has vocab.json and merges.txt, and no tokenizer.json; make it with "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    return (
        f"{folder / 'tokenizer.json'} is missing; {folder} is not a complete checkpoint, fetch it again or name "
        "another folder"
    )


def _explain(folder: Path) -> str | None:
    """What other weights a folder has; None where it has those of a checkpoint, or none at all."""
    if is_file(folder / SINGLE) or is_file(folder / INDEX):
        return None
    for pattern, explain in OTHERS.items():
        found = sorted(file.name for file in folder.glob(pattern) if is_file(file))
        if found:
            return explain(folder, brief(found[0], 80))
    return None


def _convert(folder: Path, name: str) -> str:
    return (
        f"{folder} has its weights in {name}, and quoit reads safetensors; convert them: load the folder with "
        "transformers and save it with save_pretrained(OUT)"
    )


def _other_program(folder: Path, name: str) -> str:
    return f"{folder} holds {name}, which was made of a checkpoint for another program; export the checkpoint itself"


OTHERS: dict[str, Callable[[Path, str], str]] = {
    "model-*-of-*.safetensors": lambda folder, name: (
        f"{folder} has shards ({name}) and no model.safetensors.index.json; fetch that file too"
    ),
    "*.safetensors": lambda folder, name: (
        f"{folder} has {name} and no model.safetensors; if it is the whole model, rename it to model.safetensors"
    ),
    "*model*.bin": _convert,
    "*model*.pt": _convert,
    "*model*.pth": _convert,
    "*.ckpt": _convert,
    "tf_model.h5": _convert,
    "flax_model.msgpack": _convert,
    "*.gguf": _other_program,
    "*.onnx": _other_program,
    "onnx/*.onnx": _other_program,
    "openvino_model.xml": _other_program,
}
