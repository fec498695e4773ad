"""Find the family of a model, and read its architecture. Each module or package in this folder is one family.

A family defines `FAMILY`, a `FamilyReader`: the values of config.json's `model_type` that it reads, and the function
that makes an `Architecture` from config.json. It owns the names of its tensors, its refusals, and the layers of its
graph. A family is found because it lies in this folder; no other code names it.
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
    """Values and functions by which a family is recognised and read.

    Attributes:
        title: name of the family for messages, such as `dense Qwen3`.
        model_types: the values of config.json's `model_type` that belong to the family.
        tokenizer: the rules by which transformers reads the family's tokenizers.
        read: function that makes the architecture from the content of config.json and the folder of that file. It
            raises CheckpointError if the graph cannot represent the model.
    """

    title: str
    model_types: tuple[str, ...]
    tokenizer: TokenizerRules
    read: Callable[[dict[str, Any], Path], Architecture]


@cache
def known_families() -> tuple[FamilyReader, ...]:
    """Return all families, sorted by the names of their modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    families = [import_module(f"{__name__}.{name}").FAMILY for name in names]
    return tuple(families)


def find_family(config: dict[str, Any], folder: Path) -> FamilyReader:
    """Return the family that the `model_type` of config.json names.

    Args:
        config: the content of config.json.
        folder: the folder of config.json, for messages.

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
    """Return the architecture of a checkpoint, read by its family; see `find_family` for the arguments.

    Raises:
        CheckpointError: no family has its model_type, or the family refuses its configuration.
    """
    return find_family(config, folder).read(config, folder)
