"""Write the messages about a folder that lacks a checkpoint's files, with the next step.

Files are recognised by their names alone.
"""

from collections.abc import Callable
from pathlib import Path

from quoit.artifact import TOKENIZER, is_file
from quoit.errors import brief
from quoit_export.checkpoint.json_files import describe_missing

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FETCH_OR_CONVERT = (
    "fetch it again, or, where the hub has no safetensors of it, convert it with transformers' save_pretrained(OUT)"
)


def explain_missing_config(folder: Path) -> str:
    """Return the message about a folder without config.json, with the next step."""
    inner = sorted(file.parent for file in folder.glob("*/config.json") if is_file(file.with_name(TOKENIZER)))
    if inner:
        names = brief(", ".join(path.name for path in inner), 80)
        return f"{folder} has no config.json, and its folder {names} has one; name that: `quoit-export {inner[0]} OUT`"
    return _explain(folder) or describe_missing(folder / "config.json")


def explain_missing_weights(folder: Path) -> str:
    """Return the message about a folder without model.safetensors, with the next step."""
    return _explain(folder) or describe_missing(folder / SINGLE, FETCH_OR_CONVERT)


def explain_missing_tokenizer(folder: Path) -> str:
    """Return the message about a folder without tokenizer.json, with the next step."""
    if is_file(folder / "vocab.json") and is_file(folder / "merges.txt"):
        return (
            f"{folder} has vocab.json and merges.txt, and no {TOKENIZER}; make it with "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    return describe_missing(folder / TOKENIZER)


def _explain(folder: Path) -> str | None:
    """Return the message about other weights in a folder; None if it has a checkpoint's weights, or none at all."""
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
