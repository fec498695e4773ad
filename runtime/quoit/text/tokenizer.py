"""Texts to token ids, with the artifact's own tokenizer.

A text's own ids stand between those that its task wants: an embedding model's end token behind them, a
reranker's template around them. Truncation cuts the text's own ids at their end and never those. Special
tokens written in a text are plain text. This module does not know about prompts or batches.
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
"""Texts are given to `tokenizers` so many characters at a time: it needs up to 350 bytes for each."""


@dataclass(frozen=True)
class Truncation:
    """What cutting to `max_tokens` took away.

    Attributes:
        texts: how many texts were cut.
        tokens: how many tokens they lost in all. Of a text too long to be read to its end, only those that
            were read count.
        longest: the most tokens that one text lost.
        partly_read: whether some text was too long to be read to its end; `tokens` and `longest` are lower bounds then.
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
        """What was cut, in words; nothing where nothing was."""
        if not self.texts:
            return ""
        cut = f"{self.texts:,} cut to {max_tokens:,} tokens"
        if self.partly_read:
            return f"{cut}, the longest by at least {self.longest:,} and all by at least {self.tokens:,}"
        return f"{cut}, by {self.longest:,} at most and {self.tokens:,} in all"


@dataclass(frozen=True)
class TokenRows:
    """The ids of each text, those around it included, and what truncation did."""

    ids: list[Ids]
    truncation: Truncation


@dataclass(frozen=True)
class TextTokenizer:
    """A loaded tokenizer.

    Attributes:
        tokenizer: knows the vocabulary.
        max_tokens: the most ids of a row.
        before: ids that precede a text's own.
        after: ids that follow them.
        max_characters: no more of a text is read; more tokens than `max_tokens` come from so many characters.
    """

    tokenizer: Tokenizer
    max_tokens: int
    before: Ids
    after: Ids
    max_characters: int

    @classmethod
    def load(cls, file: Path, manifest: Manifest, *, max_tokens: SupportsIndex | None = None) -> Self:
        """Reads a tokenizer.json and checks that it belongs to the model.

        Args:
            file: the tokenizer.json.
            manifest: of the artifact it lies in.
            max_tokens: the most ids of a row; by default the model's limit.

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

    def encode(self, texts: Sequence[str]) -> TokenRows:
        """The ids of each text, at most `max_tokens`.

        A text of more than `max_characters` is read up to there: no token has more characters than the longest
        of the vocabulary, so what is kept lies before.

        Raises:
            InputError: the tokenizer cannot encode a text.
        """
        room = self.max_tokens - len(self.before) - len(self.after)
        rows: list[Ids] = []
        lost: list[int] = []
        for encoding in self._encodings(texts):
            own = encoding.ids
            lost.append(max(len(own) - room, 0))
            rows.append(np.concatenate([self.before, np.array(own[:room], np.uint32), self.after]))
        cut = [tokens for tokens in lost if tokens]
        partly_read = any(len(text) > self.max_characters for text in texts)
        return TokenRows(rows, Truncation(len(cut), sum(cut), max(cut, default=0), partly_read))

    def beginning(self, prompt: str) -> Ids:
        """The ids that texts behind a prompt begin with, but for the last where the tokenizer joins it to the text."""
        row = self.encode([prompt]).ids[0]
        return row[: len(row) - len(self.after)]

    def _encodings(self, texts: Sequence[str]) -> Iterator[Encoding]:
        read = (text[: self.max_characters] for text in texts)
        for chunk in take_chunks(read, max_texts=len(texts), max_characters=CHUNK_CHARACTERS):
            what = f"the tokenizer cannot encode one of {len(chunk)} texts that begin with {shown(chunk[0])}"
            with refusing(InputError, what, "check their characters"):
                encodings = self.tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
            yield from encodings


def load_tokenizer(file: Path) -> Tokenizer:
    """A tokenizer.json as quoit reads it: whole texts, without the padding and truncation that the file may set.

    What `tokenizers` raises goes through; see `refusing`.
    """
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def take_chunks(texts: Iterable[str], *, max_texts: int, max_characters: int) -> Iterator[list[str]]:
    """Consecutive lists of at most `max_texts` texts and about `max_characters` characters.

    Where the iterable raises, the texts it gave before are a last list, and then the error goes on.
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
    """Turns what `tokenizers` raises into an error of ours: bare Exception, and BaseException where Rust panics."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise kind(f"{what}: {brief(error)}; {remedy}") from error


def _surroundings(tokenizer: Tokenizer, contract: Contract) -> tuple[Ids, Ids]:
    """The ids before and after a text's own."""
    if isinstance(contract, EmbeddingContract):
        return np.empty(0, np.uint32), np.array([contract.end_token_id], np.uint32)
    template = [tokenizer.encode(text, add_special_tokens=False).ids for text in (contract.prefix, contract.suffix)]
    # What the template is made of is special in a text too, such as <think>, which the vocabulary calls ordinary.
    added = tokenizer.get_added_tokens_decoder()
    tokenizer.add_special_tokens([added[number].content for number in {*template[0], *template[1]} & {*added}])
    return np.array(template[0], np.uint32), np.array(template[1], np.uint32)
