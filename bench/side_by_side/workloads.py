"""Real texts as workloads: the same strings for every system, so that tokenization counts too.

This module does not know the systems.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from tokenizers import Tokenizer

from bench.corpora.texts import count, cut_documents, read_texts

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
