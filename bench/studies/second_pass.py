"""What second passes cost: tokens/s of int8 with and without them, on a checkpoint with uneven activations.

    python -m bench.studies.second_pass [--shape 0.6b] [--threads 2] [--rounds 7] [--works NAME …] [--keep]

Writes the checkpoint of `models/uneven_checkpoint.py` below models/bench-second-pass-<shape>, exports int8, and writes
graphs beside it that differ in their second passes alone and share its tensors:

- `plain`: no second pass.
- `exported`: what export chose, if that is anything.
- `decoder`: what export chooses for the trained decoder of the uneven checkpoint's likeness, whether random weights
  need it or not: uneven rows of every down_proj.
- `… on onnxruntime`: the same without quoit's native kernels.

Each graph is loaded by a process of its own. Within a round every process has a turn, in an order that alternates, and
a round's ratio is that of its turns. Needs 4 GB of disk, which are given back at the end unless --keep is said. Writes
bench/results/second-pass.json and prints its table. The last line is the JSON.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
from tokenizers import Tokenizer

from bench.record import RESULTS, ROOT
from bench.studies.shape_study import run_study
from bench.studies.tables import second_pass_table
from bench.studies.turns import MIXED_TEXTS, take_turns, works
from quoit.artifact import Artifact, GraphName, Quantization, Variant, read_artifact, record_file, write_manifest
from quoit.engine.layouts.packed import make_inputs
from quoit.engine.limits import row_limits
from quoit.engine.planner import plan_batches
from quoit.ort.kernels import find_kernels
from quoit.text.tokenizer import TextTokenizer
from quoit_export.build.staging import GRAPHS, other_targets, variant_model
from quoit_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from quoit_export.export import Request, publish
from quoit_export.graph.architecture import Architecture
from quoit_export.graph.targets import Target
from quoit_export.precisions.int8 import ALL_ROWS, THRESHOLD
from quoit_export.precisions.table import PRECISIONS
from quoit_export.quantize.folding import Folding, make_rotation
from quoit_export.quantize.methods import BY_NAME, SEED
from quoit_export.quantize.quant_error import UNEVEN
from quoit_export.quantize.quant_search import Plan
from quoit_export.quantize.second_pass import multiply_adds
from quoit_export.verify.layerwise import run
from quoit_export.verify.parity import load_variant

RESULT = RESULTS / "second-pass.json"
PLAIN, EXPORTED, DECODER = "plain", "exported", "decoder"
ON_ONNXRUNTIME = " on onnxruntime"
"""Suffix of the names of artifacts that run without native kernels."""
COUNTED_TEXTS = 24
"""Number of texts of the mix on which rows with a second pass are counted."""
SHARE = "share."
"""Prefix of graph outputs that count rows."""

Thresholds = dict[str, float]


def decoder_setting(architecture: Architecture) -> Thresholds:
    """The thresholds that a trained decoder's int8 needs; see `quoit_export.quantize.second_pass`."""
    return {one.name: UNEVEN / architecture.linear_shape(one.name)[1] ** 0.5 for one in architecture.gated}


def settings(architecture: Architecture, exported: Quantization) -> dict[str, Thresholds]:
    """The settings to measure, by name; inputs of layers that export left in float32 have no second pass."""
    chosen = {EXPORTED: exported.second_pass} if exported.second_pass else {}
    needed = decoder_setting(architecture)
    decoder = {name: limit for name, limit in needed.items() if name not in exported.float32_layers}
    return {PLAIN: {}} | chosen | {DECODER: decoder}


def with_setting(checkpoint: Checkpoint, artifact: Artifact, setting: Thresholds, folder: Path) -> Artifact:
    """An artifact whose int8 has other second passes; its other files are links to those of the given one.

    Only names and shapes of tensors matter, since those that are stored replace them. So the folds are known well
    enough by whether they rotate.
    """
    variant = artifact.variant("int8")
    made = variant.quantization
    assert made is not None
    shutil.copytree(artifact.folder, folder, copy_function=os.link)
    steps = {} if setting else made.steps
    record = msgspec.structs.replace(made, second_pass=setting, narrow_second_pass=setting, steps=steps)
    architecture = checkpoint.architecture
    stream = make_rotation(architecture.dimension, SEED) if BY_NAME[made.method].rotated else None
    plan = Plan(Folding(architecture, {}, stream=stream), record)
    targets: dict[GraphName, Target | None] = {"cpu": None}
    targets |= other_targets(variant_model(checkpoint, "int8", plan), PRECISIONS["int8"], architecture)
    graphs = {}
    for name, target in targets.items():
        model = variant_model(checkpoint, "int8", plan, target)
        take_tensors(model, ir.load(artifact.folder / "int8" / GRAPHS[name]))
        file = folder / "int8" / GRAPHS[name]
        file.unlink()
        ir.save(model, file)
        graphs[name] = msgspec.structs.replace(variant.graphs[name], file=record_file(folder, file))
    changed: Variant = msgspec.structs.replace(variant, graphs=graphs, quantization=record)
    manifest = artifact.manifest
    manifest = msgspec.structs.replace(manifest, variants={**manifest.variants, "int8": changed})
    (folder / "quoit.json").unlink()
    write_manifest(folder, manifest)
    return read_artifact(folder)


def take_tensors(model: ir.Model, written: ir.Model) -> None:
    """Replace all of a graph's tensors but thresholds by those of a written graph, which refer to its file."""
    stored = written.graph.initializers
    for name, value in model.graph.initializers.items():
        if name in stored and not name.endswith(THRESHOLD):
            value.const_value = stored[name].const_value


def row_shares(artifact: Artifact, setting: Thresholds, texts: Sequence[str]) -> dict[str, float]:
    """The share of rows that take a second pass on some texts, by the name of the linear layers' input."""
    model = load_variant(artifact, "int8")
    names = [name for name, limit in setting.items() if limit != ALL_ROWS]
    for name in names:
        count_rows(model.graph, name)
    tokenizer = TextTokenizer.load(artifact.path(artifact.manifest.tokenizer), artifact.manifest)
    rows = tokenizer.encode(list(texts)).ids
    batches = list(plan_batches(rows, row_limits(rows)))
    feeds = [make_inputs(batch) for batch in batches]
    tokens = [len(feed["input_ids"]) for feed in feeds]
    found = dict.fromkeys(names, 0.0)
    for number, outputs in run(model, feeds, "counting rows"):
        for name in names:
            if SHARE + name in outputs:
                found[name] += float(outputs[SHARE + name]) * tokens[number] / sum(tokens)
    return {name: found.get(name, 1.0) for name in setting}


def count_rows(graph: ir.Graph, name: str) -> None:
    """Add an output to a graph: the share of an input's rows that are above its threshold."""
    (product, _), *_ = graph.initializers[f"{name}{THRESHOLD}"].uses()
    (greater, _), *_ = product.outputs[0].uses()
    numbers = ir.node("Cast", [greater.outputs[0]], attributes={"to": ir.DataType.FLOAT})
    mean = ir.node("ReduceMean", numbers.outputs, attributes={"keepdims": 0})
    graph.insert_after(greater, [numbers, mean])
    (result,) = mean.outputs
    result.name, result.type = SHARE + name, ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(result)


def summarize_shares(architecture: Architecture, shares: Mapping[str, float]) -> dict[str, Any]:
    """The mean share of rows by kind of input, over all layers, and the multiply-adds of second passes by those of all.

    Inputs that exist for answering tokens alone do not count.
    """
    inputs = [one for one in architecture.inputs if not one.of_answers]
    kinds: dict[str, list[float]] = {}
    for one in inputs:
        kinds.setdefault(one.name.rpartition(".")[2], []).append(shares.get(one.name, 0.0))
    costs = multiply_adds(architecture)
    return {
        "rows": {kind: round(float(np.mean(found)), 4) for kind, found in kinds.items()},
        "multiply_adds": round(sum(costs[name] * share for name, share in shares.items()), 4),
    }


def study(shape: str, folder: Path, threads: int, rounds: int, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Everything about a shape: the checkpoint, its int8, and the workloads of these names, or all."""
    script = ROOT / "models" / "uneven_checkpoint.py"
    subprocess.run([sys.executable, str(script), str(folder / "checkpoint"), "--shape", shape], check=True)
    checkpoint = open_checkpoint(str(folder / "checkpoint"))
    artifact = publish(checkpoint, Request(folder / "artifact", ("int8",)))
    variant = artifact.variant("int8")
    made = variant.quantization
    assert made is not None
    tokenizer = Tokenizer.from_file(str(artifact.path(artifact.manifest.tokenizer)))
    known = works(tokenizer)
    texts = known[f"mix of {MIXED_TEXTS}"].texts[:COUNTED_TEXTS]
    artifacts: dict[str, Artifact] = {}
    counted: dict[str, Any] = {}
    for name, setting in settings(checkpoint.architecture, made).items():
        place = folder / name
        shutil.rmtree(place, ignore_errors=True)
        artifacts[name] = with_setting(checkpoint, artifact, setting, place)
        shares = row_shares(artifacts[name], setting, texts) if setting else {}
        counted[name] = summarize_shares(checkpoint.architecture, shares)
    return {
        "shape": shape,
        "int8": {
            "bytes": sum(record.bytes for record in variant.files),
            "made": made.describe(),
            "float32_layers": len(made.float32_layers),
            "parity": {f"{one.texts} {one.measure}": [one.mean, one.minimum] for one in variant.parity if not one.note},
        },
        "second_passes": counted,
        "kernels": find_kernels().reason,
        "workloads": take_turns(
            artifacts | {f"{name}{ON_ONNXRUNTIME}": one for name, one in artifacts.items()},
            "int8",
            {name: known[name] for name in names or known},
            base=PLAIN,
            threads=threads,
            rounds=rounds,
            options={f"{name}{ON_ONNXRUNTIME}": {"kernels": False} for name in artifacts},
        ),
    }


def main() -> None:
    """The command line."""
    run_study(study, second_pass_table, RESULT, aim="Measure what second passes cost.", rounds=7)


if __name__ == "__main__":
    main()
