"""Texts to token ids, with the artifact's own tokenizer.

The tokenizer's post-processor appends the end token, and truncation keeps it. Special tokens written in a
text are plain text. This module does not know about prompts or batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from quoit.errors import ArtifactError, InputError


@dataclass(frozen=True)
class TokenRows:
    """The ids of each text, end token included, and how many texts were cut to `max_tokens`."""

    ids: list[list[int]]
    truncated: int


@dataclass(frozen=True)
class TextTokenizer:
    """A loaded tokenizer that truncates to `max_tokens`, end token included."""

    tokenizer: Tokenizer
    max_tokens: int

    @classmethod
    def load(cls, file: Path, *, max_tokens: int, end_token_id: int, vocab_size: int) -> Self:
        """Reads a tokenizer.json and checks that it belongs to the model.

        Raises:
            ArtifactError: the file is damaged, appends another end token, or has ids beyond the vocabulary.
        """
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises bare Exception
            raise ArtifactError(f"{file} is no readable tokenizer: {error}; export the artifact again") from error
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        tokenizer.enable_truncation(max_tokens)
        appended = tokenizer.encode("").ids
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
        if appended != [end_token_id] or largest >= vocab_size:
            raise ArtifactError(
                f"{file} appends {appended} and has ids up to {largest}, the model expects [{end_token_id}] and "
                f"ids below {vocab_size}: it belongs to another model; export the artifact again"
            )
        return cls(tokenizer, max_tokens)

    def encode(self, texts: Sequence[str]) -> TokenRows:
        """The ids of each text: at least the end token, at most `max_tokens`.

        Raises:
            InputError: the tokenizer cannot encode a text.
        """
        try:
            encodings = self.tokenizer.encode_batch_fast(list(texts))
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"the tokenizer cannot encode these texts: {error}; check their characters") from error
        truncated = sum(bool(encoding.overflowing) for encoding in encodings)
        return TokenRows([encoding.ids for encoding in encodings], truncated)
