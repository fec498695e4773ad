"""Prints the README's tables from bench/results/shape-0.6b.json."""

import json
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "shape-0.6b.json"
RIVAL = "optimum int8"
BULK = "int8, all workers"


def speed_table(result: dict[str, Any]) -> list[str]:
    """Tokens per second of every system, and how much faster quoit's int8 is."""
    speed = result["speed"]
    lines = [
        "| tokens/s | fp32 | optimum int8 | int8 | int8, 2 workers "
        "| int8 ÷ fp32 | int8 ÷ optimum | 2 workers ÷ optimum |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for workload in speed["int8"]:
        rates = [f"{speed[name][workload]['tokens_per_second']:.0f}" for name in ("fp32", RIVAL, "int8", BULK)]
        pairs = [("int8", "fp32"), ("int8", RIVAL), (BULK, RIVAL)]
        ratios = [f"{speed[name][workload]['speed_over'][other]:.2f} ×" for name, other in pairs]
        lines.append(f"| {workload} | {' | '.join(rates + ratios)} |")
    return lines


def cost_table(result: dict[str, Any]) -> list[str]:
    """Cold start, memory and export."""
    cold, cosine, exported = result["cold"], result["cosine_to_fp32"], result["export"]
    lines = ["| | fp32 | int8 |", "|---|---|---|"]
    seconds = [cold[name]["first_vector_seconds"] for name in ("fp32", "int8")]
    memory = [cold[name]["resident_bytes"] / 1e9 for name in ("fp32", "int8")]
    lines.append(f"| cold process to first vector | {seconds[0]:.1f} s | {seconds[1]:.1f} s |")
    lines.append(f"| most resident memory, 100 texts | {memory[0]:.2f} GB | {memory[1]:.2f} GB |")
    lines.append(f"| least cosine to fp32, mix of 128 | – | {cosine['int8'][0]:.4f} (optimum {cosine[RIVAL][0]:.4f}) |")
    lines.append("")
    lines.append(
        f"Exporting fp32, fp16 and int8 took {exported['seconds']:.0f} s and {exported['peak_bytes'] / 1e9:.1f} GB of "
        "memory at most."
    )
    return lines


def main() -> None:
    """Prints both tables."""
    result = json.loads(RESULT.read_text())
    machine, versions = result["machine"], result["versions"]
    print("\n".join(speed_table(result)))
    print()
    print("\n".join(cost_table(result)))
    print(f"({machine['cpu']}, {machine['threads']} threads, onnxruntime {versions['onnxruntime']}.)")


if __name__ == "__main__":
    main()
