"""What becomes of a GPU's figures, and those that the README has; measuring them needs a GPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.studies.cuda import summarise, token_flops
from bench.studies.tables import cuda_table, h100_table
from quoit_export.families.qwen3.tensors import costs_of
from random_checkpoint import SHAPES

ROOT = Path(__file__).parents[2]
BRIEF = json.loads((ROOT / "bench" / "results" / "h100-brief.json").read_text())
COSTS = costs_of(SHAPES["0.6b"])
OURS, THEIRS = "quoit fp16", "torch sdpa bf16, 128 rows"
ROUNDS = [{"8x64": {OURS: 300.0, "torch sdpa bf16, 32 rows": 50.0, THEIRS: 100.0 + number}} for number in range(3)]


def result(*, rivals: bool) -> dict[str, Any]:
    """As `bench.studies.cuda` writes it."""
    rounds = [{"8x64": {name: rate for name, rate in one["8x64"].items() if rivals or name == OURS}} for one in ROUNDS]
    models = [OURS, *(["torch sdpa bf16"] if rivals else [])]
    return {
        "device": "a GPU",
        "throughput": summarise(rounds, {"8x64": 64.0}, COSTS, 1000 * token_flops(COSTS, 64)),
        "latency_ms": {name: {"p50": 2.0 if name == OURS else 8.0, "p99": 9.0} for name in rounds[0]["8x64"]},
        "memory_bytes": {model: {"loaded": 10**9, "after_a_pass": 2 * 10**9} for model in models},
    }


def test_a_ratio_is_to_the_better_number_of_rows() -> None:
    found = result(rivals=True)["throughput"]["8x64"]
    assert found[OURS] == {"tokens_per_second": 300.0, "of_ceiling": 0.3, "over_best_torch": round(300 / 101, 3)}
    assert cuda_table(result(rivals=True))[2:] == [
        "| quoit fp16 | 0 | 2.0, 9.0 | 2.0 |",
        "| torch sdpa bf16 | 0 | 8.0, 9.0 | 2.0 |",
        "| quoit fp16 ÷ best torch | 2.97 | 4.0 |  |",
        "| quoit fp16, of a product's rate | 30% |  |  |",
    ]


def test_without_rivals_there_is_no_ratio() -> None:
    found = result(rivals=False)
    assert found["throughput"]["8x64"][OURS]["over_best_torch"] is None
    assert [line.split(" | ")[0] for line in cuda_table(found)[2:]] == [
        "| quoit fp16",
        "| quoit fp16, of a product's rate",
    ]


def test_the_log_has_what_the_h100_showed() -> None:
    """The passes after each workload's first; the table is the one that runtime/README.md has."""
    log = (ROOT / "bench" / "log" / "2026-11-26-cuda-h100.md").read_text(encoding="utf-8")
    rates = {workload: float(np.median(passes[OURS][1:])) for workload, passes in BRIEF["tokens_per_second"].items()}
    shares = {
        length: 100 * rates[workload] * token_flops(COSTS, length) / BRIEF["matmul_ceiling_flops"]["bf16"]
        for workload, length in (("1024x128", 128), ("256x512", 512))
    }
    assert f"{round(rates['256x512'], -3):,.0f} tokens/s at 512 are {shares[512]:.0f} %" in log
    assert f"{round(rates['1024x128'], -3):,.0f} at 128 are {shares[128]:.0f} %" in log
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in h100_table(BRIEF)[2:]}
    for name, cells in rows.items():
        (line,) = [line for line in log.splitlines() if line.startswith(f"| {name.removesuffix(', 128 rows')} |")]
        assert line.split(" | ")[1:] == cells
