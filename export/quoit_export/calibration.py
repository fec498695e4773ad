"""What a model's linear layers read on real texts: each channel's largest magnitude, and some rows.

One pass of the fp32 variant, text by text. Largest magnitudes are taken, and rows picked, within a copy of the graph
that lies beside the original and shares its tensors, so that no text's activations leave it whole. The texts are others
than those that variants are measured on (`parity`). This module does not know what the figures decide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import islice
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from tqdm import tqdm

from quoit.artifact import Artifact, EmbeddingContract, digest
from quoit.batches import plan_batches
from quoit.pipeline import CPU_LIMITS
from quoit.prompts import render, render_pairs
from quoit.readers import read_texts
from quoit.session import ONNX_NAMES, feed, onnxruntime
from quoit.tokens import Ids, TextTokenizer
from quoit_export.errors import ExportError
from quoit_export.folding import READERS, Channels, Values, split_name
from quoit_export.targets import RESIDUAL

BUILT_IN = "built-in"
PROBE = "calibration.onnx"
MOST_TEXTS = 256
LEAST_TEXTS = 8
MOST_TOKENS = 512
"""Of one text."""
SAMPLED_ROWS = 256
"""Rows kept of every input, about."""
SAMPLED = "sampled_rows"


@dataclass(frozen=True)
class CalibrationTexts:
    """The texts and where they are from."""

    source: str
    texts: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """What tells these texts from others."""
        return digest(self.texts)


@dataclass(frozen=True)
class Activations:
    """What every input of the decoder was; inputs are named as in `folding`.

    Attributes:
        largest: each channel's largest magnitude on all tokens, [in].
        rows: some tokens' values, [about SAMPLED_ROWS, in]; fewer behind the last attention, which has a row a text.
        finite: whether all these are, and the model's answers too.
        outputs: the largest magnitude that every linear layer gives, and every value of the residual stream.
    """

    largest: dict[str, Channels]
    rows: dict[str, Values]
    finite: bool = True
    outputs: dict[str, float] = field(default_factory=dict)


def built_in_texts() -> CalibrationTexts:
    """The texts that come with quoit."""
    file = resources.files("quoit_export") / "calibration_texts.txt"
    return CalibrationTexts(BUILT_IN, tuple(file.read_text(encoding="utf-8").splitlines()))


def read_calibration_texts(file: Path) -> CalibrationTexts:
    """The first MOST_TEXTS different texts of a file, of a kind that `quoit embed` reads.

    Raises:
        InputError: the file cannot be read.
        ExportError: it has fewer than LEAST_TEXTS different texts.
    """
    distinct = dict.fromkeys(text for text in read_texts(str(file)) if text.strip())
    texts = tuple(islice(distinct, MOST_TEXTS))
    if len(texts) < LEAST_TEXTS:
        raise ExportError(f"{file} has {len(texts)} different texts, calibration needs {LEAST_TEXTS}; add some")
    return CalibrationTexts(file.name, texts)


def calibration_rows(artifact: Artifact, texts: CalibrationTexts) -> list[Ids]:
    """Token ids: of every other text as a query, or of each text as a query for the next."""
    contract = artifact.manifest.contract
    limit = min(MOST_TOKENS, artifact.manifest.max_tokens)
    tokenizer = TextTokenizer.load(artifact.path(artifact.manifest.tokenizer), artifact.manifest, max_tokens=limit)
    if isinstance(contract, EmbeddingContract):
        prompts = (contract.prompts.get("document", ""), contract.prompts.get("query", ""))
        rendered = [text for index, one in enumerate(texts.texts) for text in render(prompts[index % 2], [one])]
    else:
        pairs = list(zip(texts.texts, texts.texts[1:] + texts.texts[:1], strict=True))
        rendered = list(render_pairs(pairs, contract.instruction, "\n"))
    return tokenizer.encode(rendered).ids


def observe(graph: Path, rows: Sequence[Ids]) -> Activations:
    """Runs rows of token ids through a float32 graph.

    Args:
        graph: a model.onnx of an artifact, in a folder that can be written.
        rows: token ids of texts.
    """
    model = ir.load(graph)
    answer = str(model.graph.outputs[0].name)
    peaks = list(_probe_outputs(model.graph))
    inputs = list(_probe(model))
    count = max(2, SAMPLED_ROWS // len(rows))
    largest: dict[str, NDArray[np.float32]] = {}
    outer = np.zeros(len(peaks), np.float32)
    kept: dict[str, list[Values]] = {name: [] for name in inputs}
    finite = True
    probe = graph.with_name(PROBE)
    try:
        ir.save(model, probe)
        session = onnxruntime().InferenceSession(str(probe), providers=[ONNX_NAMES["cpu"]])
        for row in tqdm(rows, desc="calibrating", unit=" texts", disable=None):
            (batch,) = plan_batches([row], CPU_LIMITS)
            picked = np.unique(np.linspace(0, len(batch.input_ids) - 1, count).astype(np.int64))
            outputs = [f"{kind}.{name}" for name in inputs for kind in ("largest", "rows")]
            names = [answer, *(f"peak.{name}" for name in peaks), *outputs]
            answers, *found = session.run(names, feed(batch) | {SAMPLED: picked})
            highest, found = np.array(found[: len(peaks)], np.float32), found[len(peaks) :]
            outer = np.maximum(outer, highest)
            finite = finite and all(bool(np.isfinite(values).all()) for values in (answers, highest, *found))
            for name, most, some in zip(inputs, found[::2], found[1::2], strict=True):
                largest[name] = np.maximum(largest.get(name, most), most)
                kept[name].append(some)
    finally:
        probe.unlink(missing_ok=True)
    return Activations(
        largest={name: most.astype(np.float64) for name, most in largest.items()},
        rows={name: np.concatenate(some) for name, some in kept.items()},
        finite=finite,
        outputs=dict(zip(peaks, outer.tolist(), strict=True)),
    )


def _probe_outputs(graph: ir.Graph) -> Iterator[str]:
    """Makes a graph give out `peak.<name>` of its linear layers and of the residual stream; yields the names."""
    for node in list(graph):
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        linear = [] if weight is None else [(str(weight.name).removesuffix(".weight"), node.outputs[0])]
        stream = [(str(value.name), value) for value in node.outputs if str(value.name).startswith(RESIDUAL)]
        for name, value in linear + stream:
            magnitudes = ir.node("Abs", [value])
            most = ir.node("ReduceMax", [magnitudes.outputs[0]], attributes={"keepdims": 0})
            most.outputs[0].name = f"peak.{name}"
            most.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            graph.outputs.append(most.outputs[0])
            graph.extend([magnitudes, most])
            yield name


def _probe(model: ir.Model) -> Iterator[str]:
    """Makes a graph give out `largest.<input>` and `rows.<input>`; yields the inputs' names."""
    graph = model.graph
    axis = ir.Value(name="token_axis", const_value=ir.tensor(np.array([0], np.int64), name="token_axis"))
    graph.register_initializer(axis)
    picked = ir.val(SAMPLED, ir.DataType.INT64, ["K"])
    graph.inputs.append(picked)
    weights = {node: str(node.inputs[1].name) for node in graph if node.op_type == "MatMul" and node.inputs[1]}
    last = max(int(split_name(name)[0].removeprefix("layers.") or 0) for name in weights.values())
    for node, weight in weights.items():
        name = weight.removesuffix(".weight")
        layer, part = split_name(name)
        if part not in READERS:
            continue
        values = node.inputs[0]
        # Behind the last attention there is a row a text, and that is taken.
        ends = layer == f"layers.{last}" and part != "self_attn.q_proj"
        magnitudes = ir.node("Abs", [values])
        most = ir.node("ReduceMax", [magnitudes.outputs[0], axis], attributes={"keepdims": 0})
        some = ir.node("Identity", [values]) if ends else ir.node("Gather", [values, picked])
        for kind, one in (("largest", most), ("rows", some)):
            one.outputs[0].name = f"{kind}.{name}"
            one.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            graph.outputs.append(one.outputs[0])
        graph.extend([magnitudes, most, some])
        yield name
