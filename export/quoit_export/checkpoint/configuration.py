"""config.json: what it says of a checkpoint beside the architecture, in every family alike."""

from pathlib import Path
from typing import Any

from quoit.errors import shown
from quoit_export.errors import CheckpointError

MAX_SIZE = 1 << 24
"""Beyond this, a number of tokens is a mistake."""
CLASSIFIER = "ForSequenceClassification"
GENERATOR = "ForCausalLM"
"""Ends of the names of transformers' classes."""


def read_position_limit(config: dict[str, Any], folder: Path) -> int:
    """The context length, `max_position_embeddings`."""
    found = config.get("max_position_embeddings")
    if type(found) is not int or not 2 <= found <= MAX_SIZE:
        raise CheckpointError(
            f"{folder}/config.json has max_position_embeddings {shown(found)}; set the context length"
        )
    return found


def is_classifier(config: dict[str, Any]) -> bool:
    """Whether the score comes from a classification head, and not from the logits of two tokens."""
    return _names_class(config, CLASSIFIER)


def is_generator(config: dict[str, Any]) -> bool:
    """Whether config.json names a causal language model, as that of Qwen3-Reranker does."""
    return _names_class(config, GENERATOR)


def _names_class(config: dict[str, Any], end: str) -> bool:
    """Whether `architectures` has a class of transformers whose name ends so."""
    names = config.get("architectures") or []
    return any(isinstance(name, str) and name.endswith(end) for name in names)
