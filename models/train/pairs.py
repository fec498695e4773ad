"""The records between the steps: two texts that belong together, and what the teacher makes of them.

A file of pairs is JSON lines, gzipped where its name ends in `.gz`. This module does not know where pairs
come from or what is trained on them.
"""

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

ENGLISH = ("debian", "wordnet", "docstrings", "docs")
"""The sources in English; the others are translations."""


class Pair(msgspec.Struct, frozen=True):
    """A text and the one that answers it, as somebody wrote them for each other."""

    source: str
    """Which collection: "debian", "wordnet", "docstrings", …"""
    group: str
    """Pairs of one group may answer each other's queries: a source package, a synset. It is held out as a whole."""
    query: str
    document: str


@dataclass(frozen=True)
class Taught:
    """Pairs and what the teacher makes of them.

    Attributes:
        pairs: n of them.
        queries: float16 `[n, 384]`, unit rows; zeros for pairs that are not English.
        documents: likewise.
    """

    pairs: Sequence[Pair]
    queries: NDArray[np.float16]
    documents: NDArray[np.float16]


def write_pairs(file: Path, pairs: Iterable[Pair]) -> int:
    """Writes JSON lines; the number of pairs. The same pairs give the same bytes."""
    encoded = msgspec.json.Encoder().encode_lines(list(pairs))
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(encoded, mtime=0))
    else:
        file.write_bytes(encoded)
    return encoded.count(b"\n")


def read_pairs(file: Path) -> list[Pair]:
    """The pairs of a file.

    Raises:
        msgspec.ValidationError: a line is no pair.
    """
    content = file.read_bytes()
    if file.suffix == ".gz":
        content = gzip.decompress(content)
    return msgspec.json.Decoder(Pair).decode_lines(content)
