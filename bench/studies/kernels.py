"""What quoit's native kernels gain: tokens/s with them, without them, and with two batches at a time.

    python -m bench.studies.kernels [--shape 0.6b] [--threads 2] [--rounds 15] [--works NAME …] [--keep]

Writes a random checkpoint of the shape below models/bench-kernels-<shape>, exports fp32 and int8, and lets processes of
the same artifact take turns: int8 with native kernels and without (`kernels=False`), each also with two workers; fp32
with and without, on queries alone. Also measures the first answer and the memory of fresh processes, and the cosine of
both to fp32. Needs 5 GB of disk, which are given back at the end unless --keep is said. Writes
bench/results/kernels.json and prints its table. The last line is the JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from bench.corpora.texts import count, cut_documents
from bench.record import RESULTS, ROOT
from bench.studies.shape_study import run_study
from bench.studies.tables import kernels_table
from bench.studies.turns import Work, take_turns, works
from quoit import Embedder
from quoit.artifact import Artifact, Precision
from quoit.machine import resident_bytes
from quoit.ort.kernels import find_kernels
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish
from quoit_export.verify.parity import parity_texts

RESULT = RESULTS / "kernels.json"
NATIVE, WITHOUT = "native", "onnxruntime"
WORKERS = " two workers"
OPTIONS: dict[str, dict[str, Any]] = {
    NATIVE: {},
    WITHOUT: {"kernels": False},
    NATIVE + WORKERS: {"workers": 2},
    WITHOUT + WORKERS: {"kernels": False, "workers": 2},
}
SINGLE = ("query", "1x35", "1x128")
"""Names of works that are one text at a time, which workers do not share."""
COMPARED_TEXTS = 34
STARTS = 5


def workloads(tokenizer: Tokenizer) -> dict[str, Work]:
    """The texts by name."""
    singles = {f"1x{tokens}": cut_documents(tokenizer, 1, tokens) for tokens in (35, 128)}
    named = {name: Work(texts, [count(tokenizer, text) for text in texts]) for name, texts in singles.items()}
    known = works(tokenizer)
    return {"query": known.pop("query"), **named, **known}


def starts(artifact: Artifact) -> dict[str, list[dict[str, float]]]:
    """Seconds to the first answer and the most resident bytes of fresh processes, with kernels and without, in turn."""
    found: dict[str, list[dict[str, float]]] = {NATIVE: [], WITHOUT: []}
    for number in range(STARTS):
        for name in list(found)[:: -1 if number % 2 else 1]:
            command = [sys.executable, "-m", "bench.studies.kernels", "start", str(artifact.folder), name]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def start_here(artifact: str, name: str) -> dict[str, float]:
    """Loads int8 within this process, and answers one query and then thirty texts."""
    start = time.perf_counter()
    embedder = Embedder(artifact, precision="int8", provider="cpu", **OPTIONS[name])
    embedder.encode_query("What is the capital of China?")
    seconds = time.perf_counter() - start
    embedder.encode_document(parity_texts()[:30])
    return {"first_answer_seconds": seconds, "resident_bytes": float(resident_bytes() or 0)}


def cosines(artifact: Artifact) -> dict[str, list[float]]:
    """Mean and least cosine of int8 to fp32, with kernels and without."""
    texts = parity_texts()[:COMPARED_TEXTS]
    exact = Embedder(artifact, precision="fp32", provider="cpu", kernels=False).encode(texts)
    found = {}
    for name in (NATIVE, WITHOUT):
        vectors = Embedder(artifact, precision="int8", provider="cpu", **OPTIONS[name]).encode(texts)
        near = np.sum(vectors * exact, axis=1)
        found[name] = [round(float(near.mean()), 6), round(float(near.min()), 6)]
    return found


def study(shape: str, folder: Path, threads: int, rounds: int, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Everything about a shape, and the workloads of these names, or all."""
    script = ROOT / "models" / "random_checkpoint.py"
    subprocess.run([sys.executable, str(script), str(folder / "checkpoint"), "--shape", shape], check=True)
    checkpoint = open_checkpoint(str(folder / "checkpoint"))
    artifact = publish(checkpoint, Request(folder / "artifact", ("fp32", "int8")))
    known = workloads(Tokenizer.from_file(str(artifact.path(artifact.manifest.tokenizer))))
    chosen = {name: known[name] for name in names or known}

    def turns(precision: Precision, contestants: Sequence[str], taken: dict[str, Work]) -> dict[str, Any]:
        options = {name: OPTIONS[name] for name in contestants}
        same = dict.fromkeys(contestants, artifact)
        return take_turns(same, precision, taken, base=WITHOUT, threads=threads, rounds=rounds, options=options)

    single = {name: work for name, work in chosen.items() if name in SINGLE}
    many = {name: work for name, work in chosen.items() if name not in SINGLE}
    measured = turns("int8", (NATIVE, WITHOUT), single)
    measured |= turns("int8", tuple(OPTIONS), many) if many else {}
    return {
        "shape": shape,
        "kernels": find_kernels().reason,
        "cosine_to_fp32": cosines(artifact),
        "starts": starts(artifact),
        "int8": measured,
        "fp32": turns("fp32", (NATIVE, WITHOUT), {name: work for name, work in single.items() if name == "query"}),
    }


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["start"]:
        print(json.dumps(start_here(*sys.argv[2:])))
        return
    run_study(study, kernels_table, RESULT, aim="Measure what native kernels gain.", rounds=15)


if __name__ == "__main__":
    main()
