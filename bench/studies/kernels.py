"""What quoit's native kernels gain: tokens/s with them, without them, and with two batches at a time.

    python -m bench.studies.kernels [--shape 0.6b] [--threads 2] [--rounds 15] [--works NAME …] [--keep]

Writes three random checkpoints of the shape below models/bench-kernels-<shape>: a plain one, one with uneven
activations and a reranker. Exports them, and lets processes of the same artifact take turns, with native kernels and
without (`kernels=False`):

- `int8`: the plain one on all works; eight texts also with two batches at a time.
- `fp32`: the plain one on queries.
- `uneven`: int8 of the uneven one.
- `reranker`: int8 of the reranker, a query and 100 documents.

Also measures the first answer and the memory of fresh processes, and the cosine of both to fp32. Needs 5 GB of disk,
which are given back at the end unless --keep is said. Writes bench/results/kernels.json and prints its table. The last
line is the JSON.
"""

import json
import shutil
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
from bench.studies.turns import RANKED_TEXTS, Work, ranking, take_turns, works
from quoit import Embedder
from quoit.artifact import Artifact, Precision, Task
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
WITH_WORKERS = ("8x128",)
"""Names of works that are measured with two batches at a time too."""
COSTLY = ("query", "8x128", "8x512")
"""Names of works that the uneven checkpoint is measured on."""
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


def make(folder: Path, script: str, shape: str, precisions: Sequence[Precision], task: Task = "embedding") -> Artifact:
    """Write a checkpoint with a script of models/, and export it; the checkpoint is removed."""
    command = [sys.executable, str(ROOT / "models" / script), str(folder / "checkpoint"), "--shape", shape]
    subprocess.run(command + ([] if task == "embedding" else ["--task", task]), check=True)
    artifact = publish(open_checkpoint(str(folder / "checkpoint")), Request(folder / "artifact", tuple(precisions)))
    shutil.rmtree(folder / "checkpoint")
    return artifact


def study(shape: str, folder: Path, threads: int, rounds: int, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Everything about a shape, and the workloads of these names, or all."""
    for name in ("plain", "uneven", "reranker"):
        (folder / name).mkdir(exist_ok=True)
    plain = make(folder / "plain", "random_checkpoint.py", shape, ("fp32", "int8"))
    uneven = make(folder / "uneven", "uneven_checkpoint.py", shape, ("int8",))
    reranker = make(folder / "reranker", "random_checkpoint.py", shape, ("int8",), "rerank")
    tokenizer = Tokenizer.from_file(str(plain.path(plain.manifest.tokenizer)))
    known = workloads(tokenizer)
    chosen = {name: known[name] for name in names or known}

    def turns(artifact: Artifact, taken: dict[str, Work], precision: Precision = "int8") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, work in taken.items():
            contestants = [*OPTIONS] if name in WITH_WORKERS and artifact is plain else [NATIVE, WITHOUT]
            options = {each: OPTIONS[each] for each in contestants}
            same = dict.fromkeys(contestants, artifact)
            found |= take_turns(
                same, precision, {name: work}, base=WITHOUT, threads=threads, rounds=rounds, options=options
            )
        return found

    return {
        "shape": shape,
        "kernels": find_kernels().reason,
        "cosine_to_fp32": cosines(plain),
        "starts": starts(plain),
        "int8": turns(plain, chosen),
        "fp32": turns(plain, {name: work for name, work in chosen.items() if name == "query"}, "fp32"),
        "uneven": turns(uneven, {name: work for name, work in chosen.items() if name in COSTLY}),
        "reranker": turns(reranker, {f"{RANKED_TEXTS} documents": ranking(tokenizer)}),
    }


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["start"]:
        print(json.dumps(start_here(*sys.argv[2:])))
        return
    run_study(study, kernels_table, RESULT, aim="Measure what native kernels gain.", rounds=15)


if __name__ == "__main__":
    main()
