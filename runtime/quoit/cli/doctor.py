"""Check an artifact on this machine: files, provider, arithmetic, known answers, speed.

Each check gives a line; a check that fails says what to do. This module does not repair anything.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from quoit.artifact import Artifact, EmbeddingContract, Precision
from quoit.embedder import Embedder
from quoit.engine.pipeline import Pipeline
from quoit.engine.pooling import Vectors
from quoit.engine.scoring import Scores
from quoit.errors import QuoitError
from quoit.machine import cpu_features, cpu_name, resident_bytes, usable_cores
from quoit.ort.probe import int8_is_exact
from quoit.ort.providers import ProviderRequest, choose, onnxruntime_version
from quoit.precisions import PRECISIONS
from quoit.reranker import Reranker
from quoit.text.prompts import NO_PROMPT

GOLDEN_SOURCE = "Qwen3-Embedding-0.6B"
GOLDEN_QUERIES = ("What is the capital of China?", "Explain gravity")
GOLDEN_DOCUMENTS = (
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is "
    "responsible for the movement of planets around the sun.",
)
GOLDEN_SCORES = ((0.7646, 0.1414), (0.1355, 0.6000))
"""Cosine scores in the model card of Qwen/Qwen3-Embedding-0.6B, a row for each query, a column for each document."""

Answer = Callable[[list[str]], Vectors]

SPEED_TEXTS = 32
SPEED_WORDS = 60


@dataclass(frozen=True)
class Finding:
    """The result of one check: its name, whether it holds, and the details."""

    name: str
    holds: bool
    detail: str


def examine(
    artifact: Artifact, precision: Precision | None, provider: ProviderRequest, *, fetched: bool = False
) -> Iterator[Finding]:
    """Yield the findings, one after another; a check that cannot run after an earlier failure is left out.

    Args:
        artifact: the artifact.
        precision: the precision to run; None for the fastest.
        provider: the provider to run on.
        fetched: True for an artifact of the hub, of which only what runs was fetched.
    """
    yield Finding("machine", True, f"{cpu_name()}, {usable_cores()} usable cores, {_features()}")
    damaged = False
    for finding in _check_files(artifact, fetched=fetched):
        damaged = damaged or not finding.holds
        yield finding
    if damaged:
        return
    try:
        yield Finding("onnxruntime", True, onnxruntime_version())
        choice = choose(artifact, provider, precision)
        yield Finding("provider", True, f"{choice.provider}: {choice.provider_reason}")
        yield Finding("precision", True, f"{choice.precision}: {choice.precision_reason}")
        yield _describe_int8()
        start = time.perf_counter()
        model: Embedder | Reranker
        if isinstance(artifact.manifest.contract, EmbeddingContract):
            model = Embedder(artifact, precision=choice.precision, provider=choice.provider)
            answer: Answer = model.encode_query
        else:
            model = Reranker(artifact, precision=choice.precision, provider=choice.provider)
            answer = partial(_scores, model)
        answer(["warm-up"])
        yield Finding("native kernels", True, model.pipeline.describe_kernels())
        yield Finding("load", True, f"first answer after {time.perf_counter() - start:.2f} s")
        yield _check_batch(answer)
        if isinstance(model, Embedder):
            yield _check_golden(model)
        yield _measure_speed(model.pipeline)
    except QuoitError as error:
        yield Finding("run", False, str(error))


def _features() -> str:
    found = cpu_features()
    if found is None:
        return "CPU features unknown"
    return f"for int8: {' '.join(found) or 'no vector instructions'}"


def _check_files(artifact: Artifact, *, fetched: bool) -> Iterator[Finding]:
    every = artifact.manifest.records()
    records = [record for record in every if artifact.place(record).exists()] if fetched else every
    for record in records:
        try:
            artifact.verify(record)
        except QuoitError as error:
            yield Finding("files", False, str(error))
            return
    total = sum(record.bytes for record in records)
    absent = len(every) - len(records)
    rest = f"; {absent} files of other variants were not fetched" if absent else ""
    yield Finding("files", True, f"{len(records)} files, {total / 1e6:,.1f} MB, every SHA-256 as recorded{rest}")


def _describe_int8() -> Finding:
    if int8_is_exact():
        return Finding("int8 arithmetic", True, "products of uint8 and int8 are summed exactly on this CPU")
    return Finding("int8 arithmetic", True, "int8 sums would saturate on this CPU: activations have 7 bits here")


def _scores(reranker: Reranker, texts: list[str]) -> Scores:
    """Return the logits of texts for one query."""
    return reranker.predict([(GOLDEN_QUERIES[0], text) for text in texts], activation="logit")


def _check_batch(answer: Answer) -> Finding:
    """Check that a text does not see its batch: its vector or score has the same bits alone and among other texts."""
    texts = [*GOLDEN_DOCUMENTS, *GOLDEN_QUERIES, "", "a"]
    together = answer(texts)
    alone = np.concatenate([answer([text]) for text in texts])
    same = bool((together == alone).all())
    detail = "bit-identical" if same else f"differ by up to {np.abs(together - alone).max():.1e}; please report this"
    return Finding("alone and in a batch", same, detail)


def _check_golden(embedder: Embedder) -> Finding:
    """Compare scores with those of the model card, if the artifact's source is the official checkpoint."""
    pipeline = embedder.pipeline
    source = pipeline.artifact.manifest.source.id
    if source.rpartition("/")[2] != GOLDEN_SOURCE:
        return Finding("golden scores", True, f"none known for {source}")
    queries, documents = embedder.encode_query(GOLDEN_QUERIES), embedder.encode_document(GOLDEN_DOCUMENTS)
    distance = float(np.abs(queries @ documents.T - np.array(GOLDEN_SCORES)).max())
    tolerance = PRECISIONS[pipeline.session.choice.precision].golden_tolerance
    holds = distance <= tolerance
    detail = f"within {distance:.4f} of the model card (tolerance {tolerance})"
    return Finding("golden scores", holds, detail if holds else f"not {detail}; export the artifact again")


def _measure_speed(pipeline: Pipeline) -> Finding:
    """Measure tokens per second on made-up texts of ordinary length; a rough figure, not a benchmark."""
    words = " ".join(GOLDEN_DOCUMENTS).split()
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(words, SPEED_WORDS)) for _ in range(SPEED_TEXTS)]
    start = time.perf_counter()
    tokens = sum(window.tokens for window in pipeline.windows(texts, NO_PROMPT))
    seconds = time.perf_counter() - start
    memory = resident_bytes()
    used = "" if memory is None else f", {memory / 1e9:.2f} GB resident at most"
    return Finding(
        "speed", True, f"{tokens / seconds:,.0f} tokens/s on {len(texts)} texts of {tokens // len(texts)} tokens{used}"
    )
