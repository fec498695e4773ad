"""Cut documents into chunks of a bounded number of tokens, each with its line or page.

semchunk splits at the largest breaks that do: blank lines, lines, sentences, words. Parts under the same headings, or
of one page, are joined before.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from quoit.errors import InputError
from quoit.files.readers.records import Part, Record

Count = Callable[[str], int]
"""Function that returns the number of tokens of a text."""
COUNTS_KEPT = 1 << 16
"""Number of texts whose tokens semchunk remembers."""
MIN_TOKENS = 32
LEAST_TOKENS = MIN_TOKENS // 2
"""Number of tokens that headings always leave. No character has more than 12, and semchunk needs room for one."""
WORD = re.compile(r"\s+")
"""Pattern of what stands before a word."""


@dataclass(frozen=True)
class Chunking:
    """How texts are cut.

    Attributes:
        tokens: maximum number of tokens of a chunk, headings included.
        overlap: number of tokens of each chunk that the next one repeats.
        count: counts the tokens of a text.
    """

    tokens: int
    overlap: int
    count: Count

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: a chunk would be too small, or mostly repeat the one before.
        """
        if self.tokens < MIN_TOKENS:
            raise InputError(f"--chunk {self.tokens} is too small; use a number from {MIN_TOKENS} on")
        if not 0 <= self.overlap <= self.tokens // 2:
            raise InputError(f"--overlap {self.overlap} must be between 0 and half of --chunk {self.tokens}")

    def cut(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the chunks of a file's records, in order. Rows with columns are cut, and never joined."""
        for _, some in groupby(records, key=_section):
            group = list(some)
            if group[0].part is None:
                yield from self._cut_row(group[0])
            else:
                yield from self._cut_section(group, [record.part for record in group if record.part is not None])

    def _cut_row(self, record: Record) -> Iterator[Record]:
        """Yield the chunks of a text that has no place in a document."""
        for start, end in self._spans(record.text, self.tokens) or [(0, len(record.text))]:
            yield record._replace(text=record.text[start:end])

    def _cut_section(self, records: Sequence[Record], parts: Sequence[Part]) -> Iterator[Record]:
        """Yield the chunks of parts under the same headings, or of one page."""
        title, page = parts[0].title, parts[0].page
        prefix = self._shortened(title)
        between = "\n" if all("\n" not in part.body for part in parts) and not title else "\n\n"
        body = between.join(part.body for part in parts)
        starts = [0]
        for part in parts[:-1]:
            starts.append(starts[-1] + len(part.body) + len(between))
        for start, end in self._spans(body, self.tokens - self.count(prefix), prefix):
            index = bisect_right(starts, start) - 1
            line = parts[index].line + body.count("\n", starts[index], start) if parts[index].line else 0
            text = f"{prefix}{' '.join(body[start:end].split())}" if prefix else body[start:end]
            yield Record(text, records[index].place, part=Part(body[start:end], title, line, page))

    def _shortened(self, title: str) -> str:
        """Return the headings before a chunk's text, but only the innermost ones that take half of a chunk or less."""
        words = title.split(": ")
        for first in range(len(words)):
            prefix = ": ".join(words[first:]) + ": "
            if title and self.count(prefix) <= self.tokens // 2:
                return prefix
        return ""

    def _spans(self, text: str, tokens: int, prefix: str = "") -> list[tuple[int, int]]:
        """Return the chunks' bounds. A chunk with its prefix has the tokens of its parts, or a few more or fewer."""
        budget = tokens
        while True:
            spans = self._split(text, budget)
            longest = max((self.count(prefix + text[start:end]) for start, end in spans), default=0)
            if longest <= self.tokens or budget == LEAST_TOKENS:
                return spans
            budget = max(budget - (longest - self.tokens), LEAST_TOKENS)

    def _split(self, text: str, budget: int) -> list[tuple[int, int]]:
        overlap = max(min(self.overlap, budget // 2, budget - LEAST_TOKENS), 0)
        _, found = semchunk_splitter()(
            text, budget - overlap, self.count, offsets=True, overlap=None, cache_maxsize=COUNTS_KEPT
        )
        spans = [(start, end) for start, end in found if end > start]
        if not overlap:
            return spans
        starts = [self._earlier(text, before[0], span, overlap) for before, span in pairwise(spans)]
        return [(start, end) for start, (_, end) in zip([spans[0][0], *starts] if spans else [], spans, strict=True)]

    def _earlier(self, text: str, first: int, span: tuple[int, int], overlap: int) -> int:
        """Return where a chunk begins that repeats up to `overlap` tokens before it: at a word, if there is one."""
        start, end = span
        most = self.count(text[start:end]) + overlap
        low, high = first + 1, start
        while low < high:
            middle = (low + high) // 2
            if self.count(text[middle:end]) <= most:
                high = middle
            else:
                low = middle + 1
        word = WORD.search(text, low - 1, start)
        return word.end() if word else low


def _section(record: Record) -> object:
    """Return what neighbouring records must share to be joined."""
    return id(record) if record.part is None else (record.part.title, record.part.page)


def semchunk_splitter() -> Any:
    """Return the function that splits a text.

    Raises:
        InputError: semchunk is not installed.
    """
    try:
        from semchunk import chunk  # type: ignore[attr-defined]
    except ImportError as error:
        raise InputError(
            f"chunks need semchunk ({error}); `pip install 'quoit[documents]'`, or use --chunk 0"
        ) from error
    return chunk
