"""Real texts as workloads: the same strings for every system, so that tokenization counts too.

texts.jsonl.gz has 1,000 texts in sixteen languages; `collect_texts.py` says where they come from. Lengths in tokens
are those of the checkpoint's own tokenizer, end token included. This module does not know the systems.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

FILE = Path(__file__).parent / "texts.jsonl.gz"
HELD_OUT = Path(__file__).parent / "heldout" / "docstrings.jsonl.gz"
Kind = Literal["document", "query", "rerank"]

QUERIES = 30
LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
RERANK_QUERY = "how to find the shortest path between two nodes of a graph when edges have weights"
RERANKED = 100
RERANK_TOKENS = 128


@dataclass(frozen=True)
class Workload:
    """Texts that are encoded or, with a query before them, scored.

    Attributes:
        name: what tables call it.
        kind: what the texts are.
        texts: the texts.
        lengths: their tokens, without prompt.
        apart: whether each is a call of its own, so that its latency counts.
        rounds: how often it is measured, at most; long ones average over noise by themselves.
        long: takes hours in all, so it is measured with the most threads alone.
    """

    name: str
    kind: Kind
    texts: list[str]
    lengths: list[int]
    apart: bool = False
    rounds: int = 7
    long: bool = False

    @property
    def tokens(self) -> int:
        """The tokens of all texts."""
        return sum(self.lengths)


def read_texts() -> list[dict[str, str]]:
    """The records of texts.jsonl.gz: language, query and text."""
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def long_texts() -> list[str]:
    """The held-out docstrings, longest first."""
    with gzip.open(HELD_OUT, "rt", encoding="utf-8") as lines:
        return sorted((json.loads(line)["document"] for line in lines), key=len, reverse=True)


def count(tokenizer: Tokenizer, text: str) -> int:
    """The tokens of a text, end token included."""
    return len(tokenizer.encode(text).ids)


def cut(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    """The beginning of a text that has exactly `tokens` tokens with the end token, or the most below that.

    The end of a cut text may be tokenized otherwise than before, so the result is encoded again.
    """
    offsets = tokenizer.encode(text).offsets
    last = min(tokens, len(offsets)) - 1
    while last > 0 and count(tokenizer, text[: offsets[last - 1][1]]) > tokens:
        last -= 1
    return text[: offsets[last - 1][1]]


def cut_documents(tokenizer: Tokenizer, number: int, tokens: int) -> list[str]:
    """`number` different texts cut to `tokens` tokens; docstrings are joined where one is shorter."""
    source = islice(cycle(long_texts()), None)
    documents = []
    for _ in range(number):
        text = next(source)
        while count(tokenizer, text) < tokens:
            text = f"{text} {next(source)}"
        documents.append(cut(tokenizer, text, tokens))
    return documents


def workloads(tokenizer: Tokenizer) -> dict[str, Workload]:
    """Every workload by name, for a checkpoint's tokenizer."""
    records = read_texts()

    def make(name: str, kind: Kind, texts: list[str], **how: Any) -> Workload:
        return Workload(name, kind, texts, [count(tokenizer, text) for text in texts], **how)

    documents: Callable[[int, int], list[str]] = partial(cut_documents, tokenizer)
    queries = [record["query"] for record in records if 10 <= len(record["query"]) <= 100][:QUERIES]
    texts = [record["text"] for record in records]
    found = [
        make("query", "query", queries, apart=True, rounds=5),
        make("8x128", "document", documents(8, 128)),
        make("8x512", "document", documents(8, 512), rounds=5),
        make("mix of 200", "document", texts[:200], rounds=5),
        make("mix of 1000", "document", texts, rounds=2, long=True),
        make("lengths", "document", [documents(1, length)[0] for length in LENGTHS], apart=True, rounds=3),
        make("1x8192", "document", documents(1, 8192), rounds=2, long=True),
        make(f"rerank {RERANKED}", "rerank", documents(RERANKED, RERANK_TOKENS), rounds=3),
    ]
    return {workload.name: workload for workload in found}
