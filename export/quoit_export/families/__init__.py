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
from quoit_export.tokenizer_rules import TokenizerRules


@dataclass(frozen=True)
class FamilyReader:
    """How a family is recognised and read.

    Attributes:
        title: the family in words, for messages, such as `dense Qwen3`.
        model_types: values of config.json's `model_type`.
        tokenizer: how transformers reads the family's tokenizers.
        read: makes the architecture of config.json, given the folder where it lies; raises CheckpointError where the
            graph cannot represent it.
    """

    title: str
    model_types: tuple[str, ...]
    tokenizer: TokenizerRules
    read: Callable[[dict[str, Any], Path], Architecture]


@cache
def known_families() -> tuple[FamilyReader, ...]:
    """All families, by the names of their modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    families = [import_module(f"{__name__}.{name}").FAMILY for name in names]
    return tuple(families)


def find_family(config: dict[str, Any], folder: Path) -> FamilyReader:
    """The family that the `model_type` of config.json names.

    Args:
        config: config.json.
        folder: where it lies, for messages.

    Raises:
        CheckpointError: no family has this model_type.
    """
    model_type, families = config.get("model_type"), known_families()
    for family in families:
        if model_type in family.model_types:
            return family
    known = " and ".join(
        f"{family.title} models (model_type {' or '.join(map(repr, family.model_types))})" for family in families
    )
    raise CheckpointError(f"{folder} has model_type {shown(model_type)}; quoit exports {known}, use one of those")


def read_architecture(config: dict[str, Any], folder: Path) -> Architecture:
    """The architecture of a checkpoint, read by its family; see `find_family` for the arguments.

    Raises:
        CheckpointError: no family has its model_type, or the family refuses its configuration.
    """
    return find_family(config, folder).read(config, folder)
