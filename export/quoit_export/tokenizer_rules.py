"""Describe how transformers reads the tokenizer files of a family of models."""

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Tokenizer

FAITHFUL = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes of transformers that read tokenizer.json unchanged, in every family."""


@dataclass(frozen=True)
class TokenizerRules:
    """Rules by which a family's tokenizer classes read its files.

    Attributes:
        owner: name of the family in messages that say whose tokenizer files to use.
        default_class: the class that transformers uses if tokenizer_config.json names none.
        rebuilding: classes that take only vocabulary and merges from tokenizer.json, and have a normalizer and a
            pre-tokenizer of their own.
        default_options: options of tokenizer.json's model that the rebuilding classes leave at their defaults.
        rebuild: function that gives a tokenizer the normalizer and pre-tokenizer of the rebuilding classes.
    """

    owner: str
    default_class: str
    rebuilding: tuple[str, ...]
    default_options: tuple[str, ...]
    rebuild: Callable[[Tokenizer], None]

    @property
    def classes(self) -> tuple[str, ...]:
        """All tokenizer classes of transformers that tokenizer_config.json may name."""
        return (*self.rebuilding, *FAITHFUL)

    @property
    def remedy(self) -> str:
        """The next step to name in a message about wrong tokenizer files."""
        return f"use {self.owner}'s tokenizer files"
