"""Where quoit's time goes: onnxruntime's own profile of one artifact on a batch, by kind of node."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from quoit.artifact import Artifact, Precision
from quoit.engine.layouts.packed import make_inputs
from quoit.engine.limits import CPU_LIMITS
from quoit.engine.planner import plan_batches
from quoit.ort.kernels import find_kernels
from quoit.ort.probe import graph_name
from quoit.ort.sessions import open_session
from quoit.text.tokenizer import TextTokenizer

RUNS = 2
"""Runs that count; one more before them takes memory."""
KINDS = {
    "MatMul": "matrix products",
    "FusedMatMul": "matrix products",
    "Gemm": "matrix products",
    "MatMulInteger": "matrix products",
    "MatMulIntegerToFloat": "matrix products",
    "GroupQueryAttention": "attention",
    "If": "attention",
    "QuantizeLinear": "quantizing activations",
    "DynamicQuantizeLinear": "quantizing activations",
    "ReduceMax": "quantizing activations",
    "ReduceMin": "quantizing activations",
    "SimplifiedLayerNormalization": "normalization",
    "SkipSimplifiedLayerNormalization": "normalization",
    "QuickGelu": "activation and scales",
    "Mul": "activation and scales",
    "Gather": "gathering rows",
    "PackedAttention1": "attention",
    "QuantizeRows1": "quantizing activations",
    "AddNormQuantizeRows1": "normalization",
    "Linear1": "matrix products",
    "ThreeLinears1": "matrix products",
    "GatedLinear1": "matrix products",
}
OTHER = "other"


def profile(artifact: Artifact, precision: Precision, texts: list[str], threads: int) -> dict[str, float]:
    """The share of each kind in the time of all nodes, for texts that make one batch or several."""
    tokenizer = TextTokenizer.load(artifact.path(artifact.manifest.tokenizer), artifact.manifest)
    variant = artifact.variant(precision)
    kernels = find_kernels()
    name = graph_name(variant, "cpu", kernels)
    graph = variant.graph(name)
    assert graph is not None
    batches = list(plan_batches(tokenizer.encode(texts).ids, CPU_LIMITS))
    with tempfile.TemporaryDirectory() as place:
        library = kernels.library if name in kernels.graphs else None
        file = artifact.path(graph.file)
        session = open_session(file, threads=threads, profile_prefix=f"{place}/profile", kernels=library)
        answer = session.get_outputs()[0].name
        for _ in range(1 + RUNS):
            for batch in batches:
                session.run([answer], make_inputs(batch))
        events = json.loads(Path(session.end_profiling()).read_text())
    return shares(behind(events, len(batches)))


def behind(events: list[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """What happened after the first runs."""
    ends = sorted(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    return [event for event in events if event["ts"] >= ends[runs - 1]]


def shares(events: list[dict[str, Any]]) -> dict[str, float]:
    """The share of each kind in the time of all nodes; what a node with a graph of its own does counts as that node."""
    spent: Counter[str] = Counter()
    for event in events:
        details = event.get("args")
        if event.get("cat") == "Node" and isinstance(details, dict) and str(event["name"]).endswith("_kernel_time"):
            operator, duration = str(details["op_name"]), event["dur"]
            # An If reports its time and so does the attention in it.
            if operator != "If":
                spent[KINDS.get(operator, OTHER)] += duration
    total = sum(spent.values())
    return {kind: round(duration / total, 4) for kind, duration in spent.most_common()}
