"""One JSON line in, one JSON line out, over standard input and output.

    {"do": "load"}                                              -> {"seconds", "versions"}
    {"do": "encode", "texts", "query", "apart", "keep"}         -> {"seconds": [...]}
    {"do": "score", "query", "documents", "keep"}               -> {"seconds": [...]}

`query` says whether the texts are queries, `apart` that each is a call of its own, with its own seconds; `keep` names a
.npy file for the vectors or scores. Any answer may be {"error"} instead. The clock covers what a caller would wait
for: from texts to a numpy array, tokenization included. What libraries print goes to standard error.
"""

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

Vectors = np.ndarray[Any, np.dtype[np.float32]]
DISTRIBUTIONS = (
    *("quoit", "sentence-transformers", "optimum-onnx", "optimum-intel", "openvino", "llama-cpp-python"),
    *("fastembed", "qwen3-embed", "infinity-emb", "torch", "transformers", "onnxruntime", "tokenizers", "numpy"),
)


class System(Protocol):
    """What an adapter makes of a library: texts to vectors [n, dim], and for rerankers a query's scores [n]."""

    def encode(self, texts: list[str], *, query: bool) -> Vectors: ...

    def score(self, query: str, documents: list[str]) -> Vectors: ...


@dataclass(frozen=True)
class TextEncoder:
    """A `System` of a library that makes vectors of texts and leaves the prompt to the caller."""

    run: Callable[[list[str]], Vectors]
    prompt: str

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        """The vectors, with the prompt before queries."""
        return self.run([self.prompt + text for text in texts] if query else texts)

    def score(self, query: str, documents: list[str]) -> Vectors:
        """Nothing that such a library does."""
        raise NotImplementedError("an embedding model scores no pairs")


Load = Callable[[dict[str, Any]], System]


def serve(load: Load, config: dict[str, Any]) -> None:
    """Answers requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    loaded: list[System] = []
    for line in sys.stdin:
        try:
            answer = respond(json.loads(line), load, config, loaded)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def respond(request: dict[str, Any], load: Load, config: dict[str, Any], loaded: list[System]) -> dict[str, Any]:
    """Does what one request asks for."""
    start = time.perf_counter()
    if request["do"] == "load":
        loaded.append(load(config))
        return {"seconds": [time.perf_counter() - start], "versions": versions()}
    (system,) = loaded
    if request["do"] == "score":
        found, seconds = timed([lambda: system.score(request["query"], request["documents"])])
    else:
        texts = request["texts"]
        parts = [[text] for text in texts] if request["apart"] else [texts]
        found, seconds = timed([partial(system.encode, part, query=request["query"]) for part in parts])
    if request["keep"]:
        np.save(request["keep"], np.concatenate(found).astype(np.float32))
    return {"seconds": seconds}


def timed(calls: list[Callable[[], Vectors]]) -> tuple[list[Vectors], list[float]]:
    """What the calls give, and the seconds each took."""
    found, seconds = [], []
    for call in calls:
        start = time.perf_counter()
        found.append(np.asarray(call()))
        seconds.append(time.perf_counter() - start)
    return found, seconds


def versions() -> dict[str, str]:
    """The installed ones of DISTRIBUTIONS."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
