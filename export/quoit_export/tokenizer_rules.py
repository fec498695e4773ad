"""How transformers reads the tokenizer files of a family of models."""

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Tokenizer

FAITHFUL = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes of transformers that read tokenizer.json as it is, in every family."""


@dataclass(frozen=True)
class TokenizerRules:
    """What a family's tokenizer classes make of its files.

    Attributes:
        owner: the family, as messages name whose tokenizer files to use.
        default_class: the class that transformers takes where tokenizer_config.json names none.
        rebuilding: classes that take only vocabulary and merges from tokenizer.json, and have a normalizer and a
            pre-tokenizer of their own.
        default_options: options of tokenizer.json's model that these leave at their defaults.
        rebuild: gives a tokenizer the normalizer and pre-tokenizer of those classes.
    """

    owner: str
    default_class: str
    rebuilding: tuple[str, ...]
    default_options: tuple[str, ...]
    rebuild: Callable[[Tokenizer], None]

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes of transformers that may be named."""
        return (*self.rebuilding, *FAITHFUL)

    @property
    def remedy(self) -> str:
        """The next step where a tokenizer's files are wrong."""
        return f"use {self.owner}'s tokenizer files"
