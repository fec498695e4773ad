"""Reranking on the 0.6B shape: 100 documents under one query, with and without the shared prefix.

    python -m bench.studies.rerank_06b [--threads 2]

Writes a Qwen3-Reranker-0.6B-shaped checkpoint with random weights and the genuine tokenizer below models/bench-0.6b,
exports fp32 and int8, measures, and writes bench/results/rerank-0.6b.json. The last line is the JSON.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.record import RESULTS, ROOT, add_trial, begin
from quoit import Reranker
from quoit.artifact import HELD_OUT, Artifact, Precision, read_artifact
from quoit.engine.pipeline import Pipeline
from quoit.engine.planner import common_prefix
from quoit.text.prompts import render_pairs
from quoit.text.tokenizer import Ids

FOLDER = ROOT / "models" / "bench-0.6b"
RESULT = RESULTS / "rerank-0.6b.json"
PRECISIONS: dict[Precision, int] = {"fp32": 1, "int8": 5}
"""Rounds of each precision; one of fp32 takes minutes and averages over noise by itself."""

DOCUMENTS = 100
WARM_UP = 5
QUERY = (
    "how does the height of a lighthouse above the water decide how far away its light can be seen by a ship at sea "
    "on a clear night"
)


def make_documents(seed: int = 0) -> list[str]:
    """DOCUMENTS texts of 60 to 160 tokens: words of the parity texts, in random order."""
    words = (ROOT / "export" / "quoit_export" / "parity_texts.txt").read_text(encoding="utf-8").split()
    plain = [word for word in words if word.isascii() and word.isalpha()]
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(plain, count)) for count in generator.integers(48, 112, DOCUMENTS)]


def export() -> Artifact:
    """The artifact, made once."""
    checkpoint, out = FOLDER / "rerank-checkpoint", FOLDER / "rerank-artifact"
    script = [sys.executable, str(ROOT / "models" / "random_checkpoint.py"), str(checkpoint)]
    subprocess.run([*script, "--shape", "0.6b", "--task", "rerank"], check=True)
    command = [sys.executable, "-m", "quoit_export", str(checkpoint), str(out), "--precision", *PRECISIONS]
    subprocess.run(command, check=True)
    return read_artifact(out)


def measure(artifact: Artifact, precision: Precision, threads: int, rounds: int) -> dict[str, Any]:
    """Seconds for all documents with and without sharing, in turn; and whether the scores are the same bits."""
    reranker = Reranker(artifact, precision=precision, provider="cpu", threads=threads)
    pairs = [(QUERY, document) for document in make_documents()]
    rows = reranker.pipeline.tokenizer.encode(list(render_pairs(pairs, reranker.contract.instruction, "\n"))).ids
    prefix = common(rows)
    documents = [len(row) - prefix for row in rows]
    shared = reranker.pipeline
    systems: dict[str, Pipeline] = {
        "shared": shared,
        "unshared": replace(shared, limits=replace(shared.limits, share_prefixes=False)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    scores: dict[str, np.ndarray] = {}
    shared.run(rows[:WARM_UP], lambda _: None)
    for number in tqdm(range(rounds), desc=precision, disable=None):
        for name in sorted(systems, reverse=bool(number % 2)):
            start = time.perf_counter()
            scores[name] = systems[name].run(rows, lambda _: None)
            seconds[name].append(time.perf_counter() - start)
    took = {name: np.array(found) for name, found in seconds.items()}
    return {
        "prefix_tokens": prefix,
        "other_tokens": [min(documents), int(np.median(documents)), max(documents)],
        "seconds": {name: round(float(np.median(found)), 3) for name, found in took.items()},
        "speedup": round(float(np.median(took["unshared"] / took["shared"])), 3),
        "speedups": [round(float(ratio), 3) for ratio in took["unshared"] / took["shared"]],
        "bit_identical": bool((scores["shared"] == scores["unshared"]).all()),
    }


def common(rows: list[Ids]) -> int:
    """How many ids all rows begin with."""
    keys = [row.astype(">u4").tobytes() for row in rows]
    return min(common_prefix(keys[0], key) for key in keys)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time reranking on the 0.6B shape.")
    parser.add_argument("--threads", type=int, default=2)
    add_trial(parser)
    options = parser.parse_args()
    recording = begin(trial=options.trial)
    artifact = export()
    variants = artifact.manifest.variants
    result = recording.describe(options.threads) | {
        "documents": DOCUMENTS,
        "parity": {
            name: {one.measure: [one.mean, one.minimum] for one in variants[name].parity if one.texts == HELD_OUT}
            for name in PRECISIONS
        },
        "sharing": {name: measure(artifact, name, options.threads, rounds) for name, rounds in PRECISIONS.items()},
    }
    print(json.dumps(result))
    recording.write(RESULT, result)


if __name__ == "__main__":
    main()
