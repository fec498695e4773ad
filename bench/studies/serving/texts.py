"""Streams of real texts, with their numbers of tokens: no two requests at a time carry the same one.

Equal texts would show how well a server joins them, and not what it computes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random

from tokenizers import Tokenizer

from bench.corpora.texts import read_held_out, read_texts

HELD_OUT = ("debian", "docstrings", "wordnet")
MAX_TOKENS = 512
"""Documents above it are left out: one alone takes as long as several requests."""
QUERY_CHARACTERS = range(10, 201)
BLOCK = 512
"""Number of texts that are tokenized together."""


@dataclass(frozen=True)
class Text:
    """A text and its number of tokens, end token included, without prompt."""

    text: str
    tokens: int


class Texts:
    """Endless streams of documents and queries, the same ones in the same order for every system."""

    def __init__(self, tokenizer: Tokenizer, most: int | None = None) -> None:
        """Read the texts.

        Args:
            tokenizer: measures them.
            most: number of documents and of queries; None for all.
        """
        records = read_texts()
        pairs = [pair for name in HELD_OUT for pair in read_held_out(name)]
        documents = [record["text"] for record in records] + [pair["document"] for pair in pairs]
        queries = [record["query"] for record in records] + [pair["query"] for pair in pairs]
        queries = [query for query in queries if len(query) in QUERY_CHARACTERS]
        self.documents = _measured(tokenizer, documents, most)
        self.queries = _measured(tokenizer, queries, most)
        self._documents, self._queries = cycle(self.documents), cycle(self.queries)

    def take(self, number: int) -> list[Text]:
        """The next documents."""
        return list(islice(self._documents, number))

    def query(self) -> Text:
        """The next query."""
        return next(self._queries)


def _measured(tokenizer: Tokenizer, texts: list[str], most: int | None) -> list[Text]:
    """Texts in an order that is drawn once, without those that are too long or come twice."""
    distinct = list(dict.fromkeys(texts))
    Random(0).shuffle(distinct)
    found = (text for text in _tokenized(tokenizer, distinct) if text.tokens <= MAX_TOKENS)
    return list(islice(found, most))


def _tokenized(tokenizer: Tokenizer, texts: list[str]) -> Iterator[Text]:
    for begin in range(0, len(texts), BLOCK):
        part = texts[begin : begin + BLOCK]
        for text, encoding in zip(part, tokenizer.encode_batch(part), strict=True):
            yield Text(text, len(encoding.ids))
