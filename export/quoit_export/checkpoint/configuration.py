"""Read the values of config.json that are common to all families and are not part of the architecture."""

from pathlib import Path
from typing import Any

from quoit.errors import shown
from quoit_export.errors import CheckpointError

MAX_SIZE = 1 << 24
"""Maximum plausible number of tokens; a larger number is a mistake."""
CLASSIFIER = "ForSequenceClassification"
GENERATOR = "ForCausalLM"
"""Endings of the names of transformers' classes: a classifier, and a causal language model."""


def read_position_limit(config: dict[str, Any], folder: Path) -> int:
    """Return the context length, `max_position_embeddings`.

    Raises:
        CheckpointError: the value is no number of tokens from 2 to MAX_SIZE.
    """
    found = config.get("max_position_embeddings")
    if type(found) is not int or not 2 <= found <= MAX_SIZE:
        raise CheckpointError(
            f"{folder}/config.json has max_position_embeddings {shown(found)}; set the context length"
        )
    return found


def is_classifier(config: dict[str, Any]) -> bool:
    """Return whether the score comes from a classification head, and not from the logits of two tokens."""
    return _names_class(config, CLASSIFIER)


def is_generator(config: dict[str, Any]) -> bool:
    """Return whether config.json names a causal language model, as that of Qwen3-Reranker does."""
    return _names_class(config, GENERATOR)


def _names_class(config: dict[str, Any], end: str) -> bool:
    """Return whether `architectures` has a class of transformers whose name ends with `end`."""
    names = config.get("architectures") or []
    return any(isinstance(name, str) and name.endswith(end) for name in names)
