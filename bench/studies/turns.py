"""Artifacts take turns in processes of their own, on the same texts.

    python -m bench.studies.turns ARTIFACT PRECISION OPTIONS

serves one of them: a line of JSON with `texts` and `kind` on standard input, a line with the seconds of each
call on standard output. The clock covers what a caller waits for: from texts to a numpy array or a ranking.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from tokenizers import Tokenizer

from bench.corpora.texts import count, cut_documents, read_texts
from bench.record import ROOT
from quoit import Embedder, Reranker
from quoit.artifact import Artifact, Precision, open_artifact

Kind = Literal["documents", "queries", "ranking"]
"""What a work's calls are: one for all documents, one for each query, or one that ranks all texts but the first by it.
"""
QUERIES = 30
QUERY_CHARACTERS = range(10, 101)
MIXED_TEXTS = 200
RANKED_TEXTS = 100
REST_SECONDS = 0.1
"""Pause between two turns: thread pools stop waiting for work in it."""
SHORT_SECONDS = 0.5
"""Minimum seconds of a turn; a shorter one is repeated."""


@dataclass(frozen=True)
class Work:
    """Texts that are embedded, or ranked.

    Attributes:
        texts: the texts.
        lengths: their tokens, without prompt.
        kind: what the calls are.
    """

    texts: list[str]
    lengths: list[int]
    kind: Kind = "documents"

    @property
    def tokens(self) -> int:
        """The tokens of all texts."""
        return sum(self.lengths)


def works(tokenizer: Tokenizer) -> dict[str, Work]:
    """The texts by name, for a checkpoint's tokenizer."""
    records = read_texts()
    queries = [record["query"] for record in records if len(record["query"]) in QUERY_CHARACTERS][:QUERIES]
    named = {
        "query": queries,
        "8x128": cut_documents(tokenizer, 8, 128),
        "8x512": cut_documents(tokenizer, 8, 512),
        f"mix of {MIXED_TEXTS}": [record["text"] for record in records[:MIXED_TEXTS]],
    }
    return {
        name: Work(texts, [count(tokenizer, text) for text in texts], "queries" if name == "query" else "documents")
        for name, texts in named.items()
    }


def ranking(tokenizer: Tokenizer) -> Work:
    """A query and the documents to rank by it."""
    records = read_texts()
    texts = [records[0]["query"], *(record["text"] for record in records[:RANKED_TEXTS])]
    return Work(texts, [count(tokenizer, text) for text in texts], "ranking")


class Process:
    """The process of one artifact; it waits for a line of input while others work."""

    def __init__(self, artifact: Artifact, precision: Precision, threads: int, options: Mapping[str, Any]) -> None:
        """Starts the process, and returns when the model is loaded; `options` are those of `Embedder`."""
        given = json.dumps({"threads": threads, **options})
        command = [sys.executable, "-m", "bench.studies.turns", str(artifact.folder), precision, given]
        counts = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | counts, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def answer(self) -> list[float]:
        """The next line that the process says.

        Raises:
            SystemExit: the process ended instead; it said why on standard error.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: the process of an artifact ended with status {self.process.wait()}; see above")
        seconds: list[float] = json.loads(line)
        return seconds

    def ask(self, work: Work) -> list[float]:
        """The seconds of every call."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"texts": work.texts, "kind": work.kind}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def turn(self, work: Work) -> list[float]:
        """The seconds of every call of one turn; what does not take long is repeated."""
        spent: list[float] = []
        while sum(spent) < SHORT_SECONDS:
            spent += self.ask(work)
        time.sleep(REST_SECONDS)
        return spent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


def serve(artifact: str, precision: Precision, options: str) -> None:
    """Loads an artifact with options of `Embedder` in JSON, and does what standard input asks for until it ends."""
    calls = load(artifact, precision, json.loads(options))
    print(json.dumps([]), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        texts, kind = asked["texts"], asked["kind"]
        seconds = []
        for part in [[text] for text in texts] if kind == "queries" else [texts]:
            start = time.perf_counter()
            calls[kind](part)
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)


def load(folder: str, precision: Precision, options: Mapping[str, Any]) -> dict[Kind, Callable[[list[str]], object]]:
    """Loads an artifact, and returns its calls."""
    artifact = open_artifact(folder)
    if artifact.manifest.task == "rerank":
        reranker = Reranker(artifact, precision=precision, provider="cpu", **options)
        return {"ranking": lambda texts: reranker.rank(texts[0], texts[1:])}
    embedder = Embedder(artifact, precision=precision, provider="cpu", **options)
    return {"documents": embedder.encode_document, "queries": embedder.encode_query}


def rate(work: Work, seconds: Sequence[float]) -> float:
    """Tokens/s of the calls of one turn, which are as many as the work has, or a multiple."""
    passes = len(seconds) / (len(work.texts) if work.kind == "queries" else 1)
    return work.tokens * passes / sum(seconds)


def order(names: Sequence[str], number: int) -> list[str]:
    """The order of a round: forwards and backwards in turn."""
    return list(reversed(names)) if number % 2 else list(names)


def summarize(work: Work, rates: Mapping[str, Sequence[float]], base: str) -> dict[str, Any]:
    """The median rates of all, and the median and quartiles of the rounds' ratios to one of them, the base."""
    ratios = {name: np.array(found) / np.array(rates[base]) for name, found in rates.items() if name != base}
    return {
        "tokens": work.tokens,
        "rounds": len(rates[base]),
        "tokens_per_second": {name: round(float(np.median(found)), 1) for name, found in rates.items()},
        f"over_{base}": {
            name: [round(float(value), 4) for value in np.quantile(found, (0.5, 0.25, 0.75))]
            for name, found in ratios.items()
        },
        "each": {name: [round(value, 1) for value in found] for name, found in rates.items()},
    }


def take_turns(
    artifacts: Mapping[str, Artifact],
    precision: Precision,
    chosen: Mapping[str, Work],
    *,
    base: str,
    threads: int,
    rounds: int,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Load every artifact in a process of its own, and measure rounds of all works; see `summarize`.

    `options` are more options of `Embedder` for some of the artifacts, by name.

    The first turn of each process, which warms up and fills the cache of prompts, does not count.
    """
    found = {}
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(Process(artifact, precision, threads, (options or {}).get(name, {})))
            for name, artifact in artifacts.items()
        }
        for title, work in chosen.items():
            rates: dict[str, list[float]] = {name: [] for name in processes}
            for process in processes.values():
                process.ask(work)
            for number in range(rounds):
                for name in order(list(processes), number):
                    rates[name].append(rate(work, processes[name].turn(work)))
                latest = ", ".join(f"{name} {each[-1]:.0f} tokens/s" for name, each in rates.items())
                print(f"{time.strftime('%H:%M:%S')} {title}, round {number + 1}: {latest}", file=sys.stderr, flush=True)
            found[title] = summarize(work, rates, base)
    return found


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], sys.argv[3])  # type: ignore[arg-type]
