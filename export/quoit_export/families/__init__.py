"""The families of models that can be exported. Each module or package in this folder is one family.

A family gives `FAMILY`, a `FamilyReader`: the values of config.json's `model_type` that it reads, and the function
that makes an `Architecture` of config.json. It owns the names of tensors, what it refuses, and the layers of its graph.
A family is found because it lies in this folder; no other code names it.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from quoit.errors import shown
from quoit_export.errors import CheckpointError
from quoit_export.graph.architecture import Architecture


@dataclass(frozen=True)
class FamilyReader:
    """How a family is recognised and read.

    Attributes:
        title: the family in words, for messages, such as `dense Qwen3`.
        model_types: values of config.json's `model_type`.
        read: makes the architecture of config.json, given the folder where it lies; raises CheckpointError where the
            graph cannot represent it.
    """

    title: str
    model_types: tuple[str, ...]
    read: Callable[[dict[str, Any], Path], Architecture]


@cache
def known_families() -> tuple[FamilyReader, ...]:
    """All families, by the names of their modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    families = [import_module(f"{__name__}.{name}").FAMILY for name in names]
    return tuple(families)


def read_architecture(config: dict[str, Any], folder: Path) -> Architecture:
    """The architecture of a checkpoint, read by the family that its `model_type` names.

    Args:
        config: config.json.
        folder: where it lies, for messages.

    Raises:
        CheckpointError: no family has this model_type, or the family refuses the configuration.
    """
    model_type = config.get("model_type")
    for family in known_families():
        if model_type in family.model_types:
            return family.read(config, folder)
    known = " and ".join(
        f"{family.title} models (model_type {' or '.join(map(repr, family.model_types))})"
        for family in known_families()
    )
    raise CheckpointError(f"{folder} has model_type {shown(model_type)}; quoit exports {known}, use one of those")
