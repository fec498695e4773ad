"""The 0.6B shape, from checkpoint to numbers: export, cold start, memory, throughput, and optimum beside it.

    python -m bench.shape_06b [--rounds 12] [--threads 2] [--no-rival]

Writes a checkpoint of Qwen3-Embedding-0.6B's shape with random weights and the genuine tokenizer below
models/bench-0.6b (about 12 GB in the end), exports every variant, and writes bench/results/shape-0.6b.json.
Random weights have the speed and the size of real ones, not their meaning. The last line is the JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.record import KIB, ROOT, describe_run
from bench.rivals import OptimumGraph
from bench.systems import Files, optimum_int8
from bench.workloads import WORKLOADS, Workload
from quoit import Embedder
from quoit.artifact import Precision

FOLDER = ROOT / "models" / "bench-0.6b"
RESULT = Path(__file__).parent / "results" / "shape-0.6b.json"
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
SHORT_RUN_SECONDS = 0.5

COLD_START = """
import resource, sys, time
start = time.perf_counter()
from quoit import Embedder
embedder = Embedder(sys.argv[1], precision=sys.argv[2], provider="cpu", threads=int(sys.argv[3]))
embedder.encode_query("What is the capital of China?")
first = time.perf_counter() - start
from pathlib import Path
texts = (Path(sys.argv[4]).read_text(encoding="utf-8").splitlines() * 2)[:100]
embedder.encode_document([f"{number}: {text}" for number, text in enumerate(texts)])
print(first, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def export(checkpoint: Path, artifact: Path) -> dict[str, float]:
    """Exports all variants in a process of its own; -> seconds and peak resident bytes."""
    command = [sys.executable, "-m", "quoit_export.cli", str(checkpoint), str(artifact), "--overwrite"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--precision", "fp32", "fp16", "int8"])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the export ended with status {status}")
    return {"seconds": time.perf_counter() - start, "peak_bytes": usage.ru_maxrss * KIB}


def cold_start(artifact: Path, precision: Precision, threads: int) -> dict[str, float]:
    """A fresh process, three times: median seconds to the first vector, and resident bytes after 100 texts."""
    texts = ROOT / "export" / "quoit_export" / "parity_texts.txt"
    command = [sys.executable, "-c", COLD_START, str(artifact), precision, str(threads), str(texts)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)]
    first, resident = np.median(np.array(runs, float), axis=0)
    return {"first_vector_seconds": float(first), "resident_bytes": float(resident) * KIB}


def interleave(
    systems: dict[str, Any], workloads: tuple[Workload, ...], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds of every round, system by workload; systems take turns within a round, each round in another order."""
    seconds: dict[str, dict[str, list[float]]] = {name: {w.name: [] for w in workloads} for name in systems}
    names = list(systems)
    with tqdm(unit=" passes", disable=None) as bar:
        for number in range(rounds + 1):
            # The first round warms up; a long workload needs none.
            for workload in (w for w in workloads if number % w.every == 0 and (number or w.every == 1)):
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    took = measure(systems[name], workload)
                    if number:
                        seconds[name][workload.name].append(took)
                    bar.update()
    return seconds


def measure(system: Any, workload: Workload) -> float:
    """Seconds of one pass over a workload; short ones are repeated for half a second and averaged."""
    start = time.perf_counter()
    passes = 0
    while passes == 0 or time.perf_counter() - start < SHORT_RUN_SECONDS:
        system.run(workload)
        passes += 1
    return (time.perf_counter() - start) / passes


class Quoit:
    """quoit from token ids to vectors: planning, session, and the way back to input order."""

    def __init__(self, artifact: Path, precision: Precision, threads: int, workers: int = 1) -> None:
        embedder = Embedder(artifact, precision=precision, provider="cpu", threads=threads, workers=workers)
        self.pipeline = embedder.pipeline

    def run(self, workload: Workload) -> np.ndarray:
        """The states of the rows, [n, hidden]."""
        return self.pipeline.run(workload.rows, lambda _: None)


def cosines(found: np.ndarray, reference: np.ndarray) -> list[float]:
    """Least and mean cosine similarity of rows."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
    values = (found * reference).sum(axis=1) / norms
    return [float(values.min()), float(values.mean())]


def summarise(seconds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Median tokens/s, its quartiles, and the median of the round-by-round speed ratios to the other systems."""
    table: dict[str, Any] = {}
    for name, by_workload in seconds.items():
        table[name] = {}
        for workload in WORKLOADS:
            took = np.array(by_workload[workload.name])
            low, middle, high = np.quantile(workload.tokens / took, [0.25, 0.5, 0.75])
            others = {other: np.array(rounds[workload.name]) for other, rounds in seconds.items() if other != name}
            table[name][workload.name] = {
                "tokens_per_second": round(float(middle), 1),
                "quartiles": [round(float(low), 1), round(float(high), 1)],
                "speed_over": {other: round(float(np.median(its / took)), 3) for other, its in others.items()},
            }
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Export and time the 0.6B shape.")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-rival", action="store_true")
    options = parser.parse_args()
    checkpoint, artifact = FOLDER / "checkpoint", FOLDER / "artifact"
    if not (checkpoint / "config.json").is_file():
        script = ROOT / "models" / "random_checkpoint.py"
        subprocess.run([sys.executable, str(script), str(checkpoint), "--shape", "0.6b"], check=True)
    result = describe_run(options.threads) | {
        "workloads": {w.name: {"texts": len(w.rows), "tokens": w.tokens} for w in WORKLOADS},
        "export": export(checkpoint, artifact),
        "cold": {name: cold_start(artifact, name, options.threads) for name in PRECISIONS},
    }
    systems: dict[str, Any] = {name: Quoit(artifact, name, options.threads) for name in PRECISIONS}
    systems["int8, all workers"] = Quoit(artifact, "int8", options.threads, workers=options.threads)
    if not options.no_rival:
        made = optimum_int8(Files(checkpoint, "embedding"))
        systems["optimum int8"] = OptimumGraph(Path(made["folder"]) / made["file"], options.threads)
    mix = WORKLOADS[-1]
    reference = systems["fp32"].run(mix)
    result["cosine_to_fp32"] = {name: cosines(system.run(mix), reference) for name, system in systems.items()}
    result["speed"] = summarise(interleave(systems, WORKLOADS, options.rounds))
    result["bench_peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
