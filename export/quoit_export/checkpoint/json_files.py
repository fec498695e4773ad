"""Read JSON files of a checkpoint; errors name the file."""

import json
from pathlib import Path
from typing import Any

from quoit.artifact import is_file
from quoit_export.errors import CheckpointError


def describe_missing(file: Path, step: str = "fetch it again or name another folder") -> str:
    """Return the message about a file that a checkpoint's folder lacks, with the next step."""
    return f"{file} is missing; {file.parent} is not a complete checkpoint, {step}"


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: the file is missing, is not valid JSON, or holds no object.
    """
    if not is_file(file):
        raise CheckpointError(describe_missing(file))
    found = _parse(file)
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds no JSON object; fetch the checkpoint again")
    return found


def read_optional_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one if the file is missing."""
    return read_json(file) if is_file(file) else {}


def read_json_list(file: Path) -> list[dict[str, Any]]:
    """Return the objects in a JSON file that holds a list of objects.

    Raises:
        CheckpointError: the file is not valid JSON, or holds no list of objects.
    """
    found = _parse(file)
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise CheckpointError(f"{file} holds no list of modules; fetch the checkpoint again")
    return found


def _parse(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}; fetch the checkpoint again") from error
