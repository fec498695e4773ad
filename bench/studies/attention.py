"""The CPU provider's two attention kernels over length: time and memory of one GroupQueryAttention node.

    python -m bench.studies.attention [--threads 2]

One sequence of the 0.6B shape (16 heads, 8 key-value heads of 128) for each length from 64 to 32,768 tokens, each in
a process of its own: on the full score matrix, and in tiles. A length whose score matrix is above --most-gigabytes is
not run on it. Writes bench/results/attention.json, and prints its table.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import onnx_ir as ir

from bench.record import RESULTS, add_trial, begin
from quoit.machine import resident_bytes
from quoit.ort.sessions import open_session
from quoit_export.graph.architecture import AttentionConfig
from quoit_export.graph.attention import Attention
from quoit_export.graph.model import IR_VERSION, OPSET
from quoit_export.graph.targets import CPU, declare_inputs
from quoit_export.precisions.encoding import MICROSOFT, Author

RESULT = RESULTS / "attention.json"
CONFIG = AttentionConfig(
    num_hidden_layers=1,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
)
LENGTHS = tuple(64 << power for power in range(10))
KERNELS = ("full", "tiled")
USED = ("row_lengths", "attention_index", "tiled_attention")
MIN_SECONDS = 1.0


def author_node() -> ir.Model:
    """Both kernels behind `tiled_attention`, fed with the rectangle itself."""
    inputs, author = declare_inputs(CPU, CONFIG), Author(lambda _: np.empty(0))
    attention = Attention(author, CONFIG, ir.DataType.FLOAT, ir.DataType.FLOAT, inputs, max(LENGTHS), CPU)
    widths = [CONFIG.num_attention_heads, CONFIG.num_key_value_heads, CONFIG.num_key_value_heads]
    rectangle = [
        ir.val(name, ir.DataType.FLOAT, ["R", "S", heads * CONFIG.head_dim])
        for name, heads in zip(("query", "key", "value"), widths, strict=True)
    ]
    context = attention.over(rectangle)
    context.name, context.dtype = "context", ir.DataType.FLOAT
    tape = author.tape
    graph = ir.Graph(
        [*rectangle, *(value for value in inputs.all if value.name in USED)],
        [context],
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports={"": OPSET, MICROSOFT: 1},
        name="attention",
    )
    return ir.Model(graph, ir_version=IR_VERSION)


def measure(kernel: str, length: int, threads: int) -> None:
    """Prints the median seconds of one run, and how much the process's peak memory grew over it, as JSON."""
    session = open_session(ir.to_proto(author_node()).SerializeToString(), threads=threads)
    generator = np.random.default_rng(0)
    widths = {"query": CONFIG.num_attention_heads, "key": CONFIG.num_key_value_heads}
    widths["value"] = widths["key"]
    feed: dict[str, Any] = {
        name: generator.standard_normal((1, length, heads * CONFIG.head_dim), np.float32)
        for name, heads in widths.items()
    }
    feed["row_lengths"] = np.array([length - 1], np.int32)
    feed["attention_index"] = np.zeros((1, length), np.int64)
    feed["tiled_attention"] = np.array(kernel == "tiled")
    before = resident_bytes()
    seconds: list[float] = []
    while sum(seconds) < MIN_SECONDS:
        start = time.perf_counter()
        session.run(None, feed)
        seconds.append(time.perf_counter() - start)
    after = resident_bytes()
    if before is None or after is None:
        raise SystemExit("this system does not tell how much memory a process has; measure on Linux or macOS")
    print(json.dumps({"seconds": float(np.median(seconds)), "bytes": after - before}))


def score_bytes(length: int) -> int:
    """The size of the full score matrix."""
    return CONFIG.num_attention_heads * length * length * 4


def table(rows: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "| tokens | full matrix | in tiles | full ÷ tiles | memory, full | memory, tiles |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        full, tiled = row["full"], row["tiled"]
        shown = f"{full['seconds'] * 1e3:,.1f} ms" if full else "not run"
        ratio = f"{full['seconds'] / tiled['seconds']:.2f} ×" if full else "–"
        memory = f"{full['bytes'] / 1e6:,.0f} MB" if full else f"{score_bytes(row['tokens']) / 1e6:,.0f} MB, computed"
        lines.append(
            f"| {row['tokens']:,} | {shown} | {tiled['seconds'] * 1e3:,.1f} ms | {ratio} | {memory} "
            f"| {tiled['bytes'] / 1e6:,.0f} MB |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time the CPU provider's attention kernels over length.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--most-gigabytes", type=float, default=8.0)
    parser.add_argument("--one", nargs=2, metavar=("KERNEL", "TOKENS"), help="measure one, in this process")
    add_trial(parser)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], int(options.one[1]), options.threads)
        return
    recording = begin(trial=options.trial)
    rows: list[dict[str, Any]] = []
    for length in LENGTHS:
        row: dict[str, Any] = {"tokens": length}
        for kernel in KERNELS:
            if kernel == "full" and score_bytes(length) > options.most_gigabytes * 1e9:
                row[kernel] = None
                continue
            command = [
                sys.executable,
                "-m",
                "bench.studies.attention",
                "--threads",
                str(options.threads),
                "--one",
                kernel,
                str(length),
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row[kernel] = json.loads(done.stdout)
        rows.append(row)
    print(table(rows))
    recording.write(RESULT, recording.describe(options.threads) | {"rows": rows})


if __name__ == "__main__":
    main()
