"""All that needs a GPU, in one run: the tests, then quoit against torch, written to bench/results/<gpu>.json.

    python -m bench.studies.cuda [--shape 4b] [--checkpoint FOLDER] [--rounds 5] [--no-tests] [--no-rivals]
    python -m bench.studies.cuda --provider cpu --checkpoint models/quoit-embedding-9m --tokens 512 --rounds 1

The first needs onnxruntime-gpu and a torch for CUDA; without --checkpoint it writes one with random weights, of the
0.6B shape by default; the results of others are called <gpu>-4b.json and the like. The second is a dry run: every step
but CUDA's own, on a machine without a GPU; its figures say nothing, and it writes no result unless --out names a file.
Artifacts are made beside the checkpoint once, so that a run that was cut off goes on. The result is written after every
round, and says how many there were. The last line is the JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import trange

from bench.corpora.tokens import TokenWorkload, equal, log_normal
from bench.record import RESULTS, ROOT, add_trial, begin
from bench.studies.tables import cuda_table
from bench.studies.torch_rival import TorchModel, device_name, load_model, matmul_ceiling
from quoit import Embedder
from quoit.artifact import Artifact, Costs, Precision, ProviderName, read_artifact
from quoit.engine.pipeline import Pipeline
from quoit.machine import cpu_name, resident_bytes, usable_cores
from quoit.ort.cuda import free_bytes
from quoit.ort.providers import onnxruntime_version
from quoit.precisions import PREFERRED

SHAPE = "0.6b"
SHORT_SECONDS = 0.5
"""Seconds for which a short pass is repeated."""
LENGTHS = (64, 128, 256, 512)
BEGUN_ALIKE_TOKENS = 92
"""Template, instruction and query of a rerank pair; see rerank_06b.py."""
QUERY_TOKENS = 16
QUERIES = 200
BATCH_ROWS = (32, 128)
"""Rows of a batch of the rival: its default, and more; the better counts."""
MIX = "mix"
LAUNCHED = ", no CUDA graphs"
"""End of the names of systems that launch the kernels of single queries one by one."""
CEILING = {"cuda": 8192, "cpu": 512}
HALVES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
ON_CUDA = PREFERRED["cuda"]

Rates = dict[str, dict[str, float]]


def fit(workload: TokenWorkload, vocabulary: int) -> TokenWorkload:
    """A workload whose ids a model of another vocabulary has, in arrays, as a tokenizer's stage hands them on."""
    return replace(workload, rows=[np.array(row) % vocabulary for row in workload.rows])


def make_workloads(tokens: int, vocabulary: int, number: int = 0) -> tuple[TokenWorkload, ...]:
    """So many tokens of texts of each length, a mix, and 100 documents behind one rerank prefix.

    The mix is another one for every number: a stream of texts has batches of shapes that were not met before.
    """
    fixed = [equal(max(1, tokens // length), length, seed) for seed, length in enumerate(LENGTHS)]
    mix = replace(log_normal(max(1, tokens // 128), len(LENGTHS) + number), name=MIX)
    return tuple(fit(each, vocabulary) for each in (*fixed, mix, rerank_workload(min(100, max(2, tokens // 128)))))


def rerank_workload(count: int) -> TokenWorkload:
    """Documents of 60 to 160 tokens, each behind the same BEGUN_ALIKE_TOKENS."""
    generator = np.random.default_rng(0)
    prefix = generator.integers(0, 10_000, BEGUN_ALIKE_TOKENS).tolist()
    rows = [prefix + generator.integers(0, 10_000, length).tolist() for length in generator.integers(60, 161, count)]
    return TokenWorkload(f"rerank {count}", rows)


def interleave(systems: dict[str, Any], workloads: tuple[TokenWorkload, ...], number: int) -> Rates:
    """Tokens/s of one round by workload and system, which take turns, each round in another order."""
    names = list(systems)
    order = names[number % len(names) :] + names[: number % len(names)]
    return {each.name: {name: each.tokens / time_pass(systems[name], each) for name in order} for each in workloads}


def time_pass(system: Any, workload: TokenWorkload) -> float:
    """Seconds of one pass over a workload; short ones are repeated for half a second and averaged, but for a mix."""
    start = time.perf_counter()
    passes = 0
    while passes == 0 or (workload.name != MIX and time.perf_counter() - start < SHORT_SECONDS):
        system.run(workload)
        passes += 1
    return (time.perf_counter() - start) / passes


def checkpoint_of(shape: str) -> Path:
    """A checkpoint of a shape with random weights, written once."""
    checkpoint = ROOT / "models" / f"bench-{shape}" / "checkpoint"
    if not checkpoint.exists():
        script = ROOT / "models" / "random_checkpoint.py"
        subprocess.run([sys.executable, str(script), str(checkpoint), "--shape", shape], check=True)
    return checkpoint


def export(checkpoint: Path, out: Path) -> Artifact:
    """The artifact with the variants that CUDA runs, made once by the command that users have."""
    command = [sys.executable, "-m", "quoit_export", str(checkpoint), str(out), "--precision", *ON_CUDA]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return read_artifact(out)


class Quoit:
    """quoit from token ids to states in input order."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def run(self, workload: TokenWorkload) -> np.ndarray:
        """The states of the rows, [n, hidden]."""
        return self.pipeline.run(workload.rows, lambda _: None)


def run_tests() -> dict[str, Any]:
    """The tests that need a GPU: how they ended, and the last lines of what they said."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-q",
        "-rA",
        str(ROOT / "tests" / "runtime" / "test_cuda.py"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return {"exit": done.returncode, "summary": lines[-1] if lines else "", "lines": lines[-30:]}


def used_bytes(provider: ProviderName) -> int:
    """Memory in use: what the device lacks, or the process's peak; 0 where the system does not tell."""
    return -free_bytes() if provider == "cuda" else resident_bytes() or 0


def load_quoit(artifact: Artifact, precision: Precision, provider: ProviderName) -> dict[str, Any]:
    """A precision as it runs by default."""
    return {f"quoit {precision}": Quoit(Embedder(artifact, precision=precision, provider=provider).pipeline)}


def load_torch(checkpoint: Path, precision: Precision, provider: ProviderName) -> dict[str, Any]:
    """The rival in one type, with as many rows as it takes by default, and more."""
    model = load_model(checkpoint, HALVES[precision], provider)
    return {f"torch sdpa {precision}, {rows} rows": TorchModel(model, provider, rows) for rows in BATCH_ROWS}


def make_systems(
    artifact: Artifact, checkpoint: Path, provider: ProviderName, rivals: bool, workload: TokenWorkload
) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """Every system by name, and the memory that its model takes when loaded, and after a pass over a workload."""
    loads = {f"quoit {precision}": partial(load_quoit, artifact, precision, provider) for precision in ON_CUDA}
    if rivals:
        loads |= {f"torch sdpa {name}": partial(load_torch, checkpoint, name, provider) for name in HALVES}
    systems: dict[str, Any] = {}
    memory: dict[str, dict[str, int]] = {}
    for model, load in loads.items():
        before = used_bytes(provider)
        mine = load()
        loaded = used_bytes(provider)
        for system in mine.values():
            system.run(workload)
        memory[model] = {"loaded": loaded - before, "after_a_pass": used_bytes(provider) - before}
        systems |= mine
    for precision in ON_CUDA if provider == "cuda" else ():
        launched = Embedder(artifact, precision=precision, provider=provider, cuda_graphs=False)
        systems[f"quoit {precision}{LAUNCHED}"] = Quoit(launched.pipeline)
    return systems, memory


def latencies(systems: dict[str, Any], queries: int, vocabulary: int) -> dict[str, dict[str, float]]:
    """Milliseconds of single queries of different ids, system by system in turn: median and 99th percentile."""
    workloads = [fit(equal(1, QUERY_TOKENS, 1000 + number), vocabulary) for number in range(queries)]
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for workload in workloads:
        for name, system in systems.items():
            start = time.perf_counter()
            system.run(workload)
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {f"p{rank}": round(1000 * float(np.percentile(took[len(took) // 10 :], rank)), 3) for rank in (50, 99)}
        for name, took in seconds.items()
    }


def token_flops(costs: Costs, length: int) -> float:
    """Of one token in a text of so many: two for each weight, and causal attention over half the text on average."""
    return 2 * costs.weights + costs.pair_operations * length / 2


def summarise(
    rounds: Sequence[Rates], lengths: dict[str, float], costs: Costs, ceiling: float
) -> dict[str, dict[str, Any]]:
    """By workload and system, tokens/s, the fraction of the ceiling, and the ratio to the best rival round by round.

    Args:
        rounds: what `interleave` found in each.
        lengths: tokens of a workload's texts on average.
        costs: what a batch of the model costs.
        ceiling: FLOP/s of a matrix product.
    """
    table: dict[str, dict[str, Any]] = {}
    for workload, length in lengths.items():
        rates = {name: np.array([found[workload][name] for found in rounds]) for name in rounds[0][workload]}
        rivals = [each for name, each in rates.items() if name.startswith("torch")]
        best = max(rivals, key=lambda each: float(np.median(each)), default=None)
        table[workload] = {}
        for name, each in rates.items():
            rate = float(np.median(each))
            table[workload][name] = {
                "tokens_per_second": round(rate, 1),
                "of_ceiling": round(rate * token_flops(costs, int(length)) / ceiling, 4),
                "over_best_torch": None if best is None else round(float(np.median(each / best)), 3),
            }
    return table


def cosines(systems: dict[str, Any], workload: TokenWorkload) -> dict[str, float]:
    """The least cosine of every system's vectors to those of the first one."""
    vectors = {name: system.run(workload) for name, system in systems.items()}
    unit = {name: found / np.linalg.norm(found, axis=1, keepdims=True) for name, found in vectors.items()}
    reference = next(iter(unit.values()))
    return {name: round(float((found * reference).sum(axis=1).min()), 6) for name, found in unit.items()}


def measure(options: argparse.Namespace, commit: str) -> Iterator[dict[str, Any]]:
    """The result after every round, as the JSON has it."""
    checkpoint = options.checkpoint or checkpoint_of(options.shape)
    artifact = export(checkpoint, checkpoint.with_name(f"{checkpoint.name}-cuda-artifact"))
    costs = artifact.manifest.costs
    workloads = make_workloads(options.tokens, artifact.manifest.vocab_size)
    lengths = {each.name: each.tokens / len(each.rows) for each in workloads}
    systems, memory = make_systems(artifact, checkpoint, options.provider, not options.no_rivals, workloads[-3])
    many = {name: system for name, system in systems.items() if not name.endswith(LAUNCHED)}
    ceilings = {
        name: matmul_ceiling(dtype, options.provider, CEILING[options.provider]) for name, dtype in HALVES.items()
    }
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "machine": {"cpu": cpu_name(), "cores": usable_cores()},
        "onnxruntime": onnxruntime_version(),
        "device": device_name(options.provider),
        "torch": torch.__version__,
        "model": artifact.manifest.source.id,
        "limits": {name: system.pipeline.limits.stream_tokens for name, system in systems.items() if "quoit" in name},
        "matmul_ceiling_flops": ceilings,
        "memory_bytes": memory,
        "cosine_to_first": cosines(systems, workloads[-2]),
        "latency_ms": latencies(systems, options.queries, artifact.manifest.vocab_size),
    }
    rounds: list[Rates] = []
    # The first round warms up.
    for number in trange(options.rounds + 1, unit=" rounds", disable=None):
        found = interleave(many, make_workloads(options.tokens, artifact.manifest.vocab_size, number), number)
        if number:
            rounds.append(found)
            yield facts | {"rounds": number, "throughput": summarise(rounds, lengths, costs, ceilings["bf16"])}


def out_of(options: argparse.Namespace) -> Path | None:
    """Where the result goes: by default to bench/results, by the device's and the model's names; on a CPU nowhere."""
    if options.out is not None or options.provider == "cpu":
        given: Path | None = options.out
        return given
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(options.provider).lower()).strip("-")
    model = options.checkpoint.name if options.checkpoint else options.shape
    return RESULTS / (f"{slug}.json" if model == SHAPE else f"{slug}-{model}.json")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Test and time quoit on a GPU.")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--checkpoint", type=Path, help="default: one of --shape, with random weights")
    parser.add_argument("--shape", choices=("0.6b", "4b", "8b"), default=SHAPE)
    parser.add_argument("--tokens", type=int, default=1 << 18, help="of each workload")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--rounds", type=int, default=5, help="after one that warms up")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--no-rivals", action="store_true")
    add_trial(parser)
    parser.add_argument("--out", type=Path, help="default: bench/results/<gpu>.json; on a CPU, nowhere")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} must be 1 or more")
    recording = begin(trial=options.trial or options.provider == "cpu")
    tests = None if options.no_tests else run_tests()
    out = out_of(options)
    result: dict[str, Any] = {}
    for found in measure(options, recording.commit):
        result = {"tests": tests} | found
        if out is not None:
            recording.write(out, result)
    print("\n".join(cuda_table(result)), file=sys.stderr)
    print(json.dumps(result))
    if tests and tests["exit"] != 0:
        raise SystemExit(f"the tests failed: {tests['summary']}")


if __name__ == "__main__":
    main()
