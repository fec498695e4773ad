"""Turn texts into token ids, with the artifact's own tokenizer.

The task adds ids around a text's own: an embedding model adds its end token after them, a reranker adds a template
before and after them. Truncation cuts the end of the text's own ids and never the added ones. Special tokens
written in a text are plain text. This module does not know about prompts or batches.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from quoit.arguments import check_number
from quoit.artifact import Contract, EmbeddingContract, Manifest
from quoit.errors import ArtifactError, InputError, QuoitError, brief, shown

Ids = NDArray[np.uint32]

CHUNK_CHARACTERS = 1 << 20
"""Approximate number of characters per call of `tokenizers`, which needs up to 350 bytes for each character."""


@dataclass(frozen=True)
class Truncation:
    """Counts of the texts and tokens that were lost by cutting to `max_tokens`.

    Attributes:
        texts: number of texts that were cut.
        tokens: number of tokens that they lost in all. A text that is too long to be read to its end counts with the
            tokens that were read.
        longest: largest number of tokens that one text lost.
        partly_read: True if a text was too long to be read to its end; `tokens` and `longest` are lower bounds then.
    """

    texts: int = 0
    tokens: int = 0
    longest: int = 0
    partly_read: bool = False

    def __add__(self, other: "Truncation") -> "Truncation":
        return Truncation(
            self.texts + other.texts,
            self.tokens + other.tokens,
            max(self.longest, other.longest),
            self.partly_read or other.partly_read,
        )

    def describe(self, max_tokens: int) -> str:
        """Return the counts in words; empty if no text was cut."""
        if not self.texts:
            return ""
        cut = f"{self.texts:,} cut to {max_tokens:,} tokens"
        if self.partly_read:
            return f"{cut}, the longest by at least {self.longest:,} and all by at least {self.tokens:,}"
        return f"{cut}, by {self.longest:,} at most and {self.tokens:,} in all"


@dataclass(frozen=True)
class TokenRows:
    """Token ids of each text, including the ids around it, and the counts of truncation."""

    ids: list[Ids]
    truncation: Truncation


@dataclass(frozen=True)
class TextTokenizer:
    """A loaded tokenizer.

    Attributes:
        tokenizer: the tokenizer of the `tokenizers` package, which knows the vocabulary.
        max_tokens: maximum number of ids in a row.
        before: ids that precede a text's own ids.
        after: ids that follow a text's own ids.
        max_characters: number of characters after which a text is not read on. They always give enough tokens to fill
            a row, since no token has more characters than the longest one of the vocabulary.
    """

    tokenizer: Tokenizer
    max_tokens: int
    before: Ids
    after: Ids
    max_characters: int

    @classmethod
    def load(cls, file: Path, manifest: Manifest, *, max_tokens: SupportsIndex | None = None) -> Self:
        """Read a tokenizer.json and check that it belongs to the model.

        Args:
            file: path of the tokenizer.json.
            manifest: manifest of the artifact that has the file.
            max_tokens: maximum number of ids in a row; by default the model's limit.

        Raises:
            ArtifactError: the file is damaged, appends another end token, or has ids beyond the vocabulary.
            InputError: `max_tokens` is above the model's limit, or leaves no room for a text.
        """
        with refusing(ArtifactError, f"{file} is no readable tokenizer", "export the artifact again"):
            tokenizer = load_tokenizer(file)
            vocabulary = tokenizer.get_vocab(with_added_tokens=True)
            appended = tokenizer.encode("").ids
            before, after = _surroundings(tokenizer, manifest.contract)
        largest, vocab_size = max(vocabulary.values(), default=0), manifest.vocab_size
        misfits = isinstance(manifest.contract, EmbeddingContract) and appended != after.tolist()
        if misfits or largest >= vocab_size:
            raise ArtifactError(
                f"{file} appends {shown(appended)} and has ids up to {largest}, the model expects "
                f"{shown(after.tolist())} and ids below {vocab_size}: it belongs to another model; "
                "export the artifact again"
            )
        tokenizer.encode_special_tokens = True
        surrounding = len(before) + len(after)
        longest = check_number(
            "max_tokens",
            manifest.max_tokens if max_tokens is None else max_tokens,
            surrounding + 1,
            manifest.max_tokens,
            advice=f"; {surrounding} of them surround every text",
        )
        return cls(tokenizer, longest, before, after, longest * max(map(len, vocabulary), default=1))

    def encode(self, texts: Sequence[str], max_tokens: int | None = None) -> TokenRows:
        """Return the ids of each text, at most `max_tokens`, which is the tokenizer's own limit by default.

        A text of more than `max_characters` is read up to there. No token has more characters than the longest one
        of the vocabulary, so all kept tokens lie before that point.

        Raises:
            InputError: the tokenizer cannot encode a text.
        """
        own = (encoding.ids for encoding in self._encodings(texts))
        partly_read = any(len(text) > self.max_characters for text in texts)
        return self.surround(own, max_tokens, partly_read=partly_read)

    def surround(
        self, own: Iterable[Sequence[int]], max_tokens: int | None = None, *, partly_read: bool = False
    ) -> TokenRows:
        """Return the ids of each text between those around it, at most `max_tokens`; see `encode`.

        Args:
            own: each text's own ids.
            max_tokens: maximum number of ids in a row.
            partly_read: True if a text was not read to its end.
        """
        room = (self.max_tokens if max_tokens is None else max_tokens) - len(self.before) - len(self.after)
        rows: list[Ids] = []
        lost: list[int] = []
        for ids in own:
            lost.append(max(len(ids) - room, 0))
            rows.append(np.concatenate([self.before, np.array(ids[:room], np.uint32), self.after]))
        cut = [tokens for tokens in lost if tokens]
        return TokenRows(rows, Truncation(len(cut), sum(cut), max(cut, default=0), partly_read))

    def beginning(self, prompt: str) -> Ids:
        """Return the ids that texts after a prompt begin with. The tokenizer may join the last one to a text."""
        row = self.encode([prompt]).ids[0]
        return row[: len(row) - len(self.after)]

    def cut(self, text: str, max_tokens: int) -> str:
        """Return the beginning of a text that has at most `max_tokens` ids of its own."""
        encoding = self.tokenizer.encode(text[: self.max_characters], add_special_tokens=False)
        return text if len(encoding.ids) <= max_tokens else text[: encoding.offsets[max_tokens - 1][1]]

    def _encodings(self, texts: Sequence[str]) -> Iterator[Encoding]:
        read = (text[: self.max_characters] for text in texts)
        for chunk in take_chunks(read, max_texts=len(texts), max_characters=CHUNK_CHARACTERS):
            what = f"the tokenizer cannot encode one of {len(chunk)} texts that begin with {shown(chunk[0])}"
            with refusing(InputError, what, "check their characters"):
                encodings = self.tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
            yield from encodings


def load_tokenizer(file: Path) -> Tokenizer:
    """Load a tokenizer.json for whole texts, without the padding and truncation that the file may set.

    Errors of `tokenizers` are not caught here; see `refusing`.
    """
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def take_chunks(texts: Iterable[str], *, max_texts: int, max_characters: int) -> Iterator[list[str]]:
    """Yield consecutive lists of at most `max_texts` texts and about `max_characters` characters.

    If the iterable raises, the texts before the error are yielded as a last list, and then the error is raised.
    """
    chunk: list[str] = []
    characters = 0
    try:
        for text in texts:
            chunk.append(text)
            characters += len(text)
            if len(chunk) == max_texts or characters >= max_characters:
                yield chunk
                chunk, characters = [], 0
    except Exception:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


@contextmanager
def refusing(kind: type[QuoitError], what: str, remedy: str) -> Iterator[None]:
    """Turn errors of `tokenizers` into quoit's: it raises a bare Exception, and a BaseException if Rust panics."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise kind(f"{what}: {brief(error)}; {remedy}") from error


def _surroundings(tokenizer: Tokenizer, contract: Contract) -> tuple[Ids, Ids]:
    """Return the ids before and after a text's own ids."""
    if isinstance(contract, EmbeddingContract):
        return np.empty(0, np.uint32), np.array([contract.end_token_id], np.uint32)
    template = [tokenizer.encode(text, add_special_tokens=False).ids for text in (contract.prefix, contract.suffix)]
    # Tokens of the template, such as <think>, may be ordinary in the vocabulary. They are made special, so that a
    # text cannot write them: `encode_special_tokens` encodes special tokens of a text as plain text.
    added = tokenizer.get_added_tokens_decoder()
    tokenizer.add_special_tokens([added[number].content for number in {*template[0], *template[1]} & {*added}])
    return np.array(template[0], np.uint32), np.array(template[1], np.uint32)
