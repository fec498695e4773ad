"""Observe the inputs and outputs of a model's linear layers on real texts.

Of each input, each channel's largest magnitude and some rows are kept; of each output, the largest magnitude. One pass
of the fp32 graph suffices, and other texts may share it. Magnitudes are computed and rows are picked within the graph,
so that no text's activations leave it whole. The texts differ from the held-out texts that variants are measured on
(`parity`). This module does not know which decisions depend on its figures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit.artifact import Artifact, Calibration, EmbeddingContract
from quoit.engine.layouts.packed import make_inputs
from quoit.engine.limits import row_limits
from quoit.engine.planner import Batch, plan_batches
from quoit.files.readers import Skipped, read_texts
from quoit.fingerprint import digest
from quoit.ort.session import Answers
from quoit.text.prompts import document_prompt, query_prompt, render_pairs
from quoit.text.tokenizer import Ids, TextTokenizer
from quoit_export.errors import ExportError
from quoit_export.graph.architecture import Architecture
from quoit_export.graph.targets import RESIDUAL
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.quantize.folding import Channels, Values
from quoit_export.sample_texts import sample_texts
from quoit_export.verify.layerwise import run

BUILT_IN = "built-in"
MAX_TEXTS = 256
MIN_TEXTS = 8
MAX_TOKENS = 512
"""Maximum number of tokens of a calibration text."""
SAMPLED_ROWS = 1536
"""Approximate number of rows kept of every input, for error feedback."""
PREDICTED_ROWS = 384
"""Approximate number of these rows on which errors are predicted."""
SAMPLED = "sampled_rows"


@dataclass(frozen=True)
class CalibrationTexts:
    """Calibration texts and the name of their source."""

    source: str
    texts: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash that identifies these texts."""
        return digest(self.texts)

    def record(self, rows: Sequence[Ids]) -> Calibration:
        """Return the manifest's record of these texts, given their rows of token ids."""
        return Calibration(self.source, self.sha256, len(rows), sum(map(len, rows)))


@dataclass(frozen=True)
class Activations:
    """Observed inputs and outputs of the linear layers; inputs are named as in `graph.architecture`.

    Attributes:
        largest: each channel's largest magnitude on all tokens, [in], by input.
        rows: some tokens' values, [about SAMPLED_ROWS, in], by input. Behind the last attention there is only one row
            for each text.
        finite: True if all these values and the model's answers are finite.
        outputs: the largest magnitude of every linear layer's output and of every value of the residual stream.
        predicted: for each row of an input, whether errors are predicted on it; about PREDICTED_ROWS are. A missing
            input has no other rows.
    """

    largest: dict[str, Channels]
    rows: dict[str, Values]
    finite: bool = True
    outputs: dict[str, float] = field(default_factory=dict)
    predicted: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def sample(self, name: str) -> Values:
        """Return the rows of an input on which errors are predicted, [n, in]."""
        return self.rows[name][self.predicted[name]] if name in self.predicted else self.rows[name]


@dataclass(frozen=True)
class Observed:
    """A decoder and its observed activations.

    Attributes:
        read: function that returns a tensor by its name in the checkpoint.
        architecture: the architecture of the decoder.
        activations: the observed inputs and outputs of its linear layers.
        calibration: the manifest's record of the calibration texts.
    """

    read: ReadTensor
    architecture: Architecture
    activations: Activations
    calibration: Calibration


def built_in_texts() -> CalibrationTexts:
    """Return the calibration texts that come with quoit: sentences and lines of code first, then snippets.

    A snippet is a single token, a fragment or code of several lines. First tokens and delimiters carry a trained
    decoder's massive activations, and in a snippet the end token may be massive as well.
    """
    return CalibrationTexts(BUILT_IN, tuple(sample_texts("calibration_texts.jsonl")))


def read_calibration_texts(file: Path) -> CalibrationTexts:
    """Return the first MAX_TEXTS different texts of a file or folder, of a kind that `quoit embed` reads.

    Empty and missing texts are skipped.

    Raises:
        InputError: the file cannot be read.
        ExportError: it has fewer than MIN_TEXTS different texts.
    """
    distinct = dict.fromkeys(text for text in read_texts(str(file), skipped=Skipped()) if text.strip())
    texts = tuple(islice(distinct, MAX_TEXTS))
    if len(texts) < MIN_TEXTS:
        raise ExportError(f"{file} has {len(texts)} different texts, calibration needs {MIN_TEXTS}; add some")
    return CalibrationTexts(file.name, texts)


def calibration_rows(artifact: Artifact, texts: CalibrationTexts) -> list[Ids]:
    """Return the token ids of the calibration texts.

    For an embedding model, texts are a document and a query in turn. For a reranker, each text is the query of a pair
    whose document is the next text.
    """
    contract = artifact.manifest.contract
    limit = min(MAX_TOKENS, artifact.manifest.max_tokens)
    tokenizer = TextTokenizer.load(artifact.path(artifact.manifest.tokenizer), artifact.manifest, max_tokens=limit)
    if isinstance(contract, EmbeddingContract):
        prompts = (document_prompt(contract.prompts), query_prompt(contract.prompts, None))
        rendered = [prompts[index % 2].text + one for index, one in enumerate(texts.texts)]
    else:
        pairs = list(zip(texts.texts, texts.texts[1:] + texts.texts[:1], strict=True))
        rendered = list(render_pairs(pairs, contract.instruction, "\n"))
    return tokenizer.encode(rendered).ids


def observe(
    model: ir.Model, architecture: Architecture, rows: Sequence[Ids], others: Sequence[Batch] = ()
) -> tuple[Activations, list[Answers]]:
    """Observe a float32 graph on rows of token ids, and run other batches in the same pass for their answers.

    Args:
        model: the graph; more outputs are added to it.
        architecture: the architecture, which says which linear layers read one input.
        rows: the token ids of the calibration texts.
        others: batches of other texts whose answers are wanted.

    Returns:
        The observed inputs and outputs of the linear layers on the rows, and the graph's answers to the other batches.
    """
    answer = str(model.graph.outputs[0].name)
    peaks = list(_probe_outputs(model.graph))
    inputs = dict(_probe(model.graph, architecture))
    batches = list(plan_batches(rows, row_limits(rows)))
    observers = [_Observer(batch, len(rows)) for batch in batches]
    nothing = {SAMPLED: np.empty(0, np.int64)}
    feeds = [one.inputs | {SAMPLED: np.concatenate(one.picked)} for one in observers]
    feeds += [make_inputs(batch) | nothing for batch in others]
    seen = _Seen(len(rows))
    found: dict[int, Answers] = {}
    for number, outputs in run(model, feeds, "calibrating"):
        if number < len(batches):
            seen.add(outputs, inputs, observers[number])
            seen.add_peaks(outputs, peaks)
        elif answer in outputs:
            found[number - len(batches)] = outputs[answer]
    return seen.activations(inputs), [found[number] for number in range(len(others))]


class _Observer:
    """Stream rows of a batch that are kept.

    Attributes:
        batch: the batch.
        inputs: the graph inputs of the batch.
        picked: the kept rows of each text: those of evenly spaced tokens, the first and the last among them.
        predicted: whether errors are predicted on each kept row of each text: fewer tokens, spaced likewise.
    """

    def __init__(self, batch: Batch, texts: int) -> None:
        self.batch = batch
        self.inputs = make_inputs(batch)
        self.picked: list[Ids] = []
        self.predicted: list[NDArray[np.bool_]] = []
        for row in batch.output_row:
            last = len(batch.rows[row]) - 1
            many, few = (
                np.linspace(0, last, max(2, count // texts)).astype(np.int64)
                for count in (SAMPLED_ROWS, PREDICTED_ROWS)
            )
            places = np.union1d(many, few)
            self.picked.append(self.inputs["attention_index"][row, places])
            self.predicted.append(np.isin(places, few))

    def texts(self, values: Values, *, ends: bool) -> Iterator[tuple[int, Values]]:
        """Yield each text's number and its kept rows of an input.

        With `ends`, the input lies behind the last attention and has one row for each text, which is kept.
        """
        if ends:
            parts = [values[row : row + 1] for row in self.batch.output_row]
        else:
            parts = np.split(values, np.cumsum([len(some) for some in self.picked])[:-1])
        yield from zip(self.batch.texts.tolist(), parts, strict=True)


class _Seen:
    """Collects the values that have been observed so far."""

    def __init__(self, texts: int) -> None:
        self.texts = texts
        self.largest: dict[str, Values] = {}
        self.rows: dict[str, dict[int, Values]] = {}
        self.predicted: dict[int, NDArray[np.bool_]] = {}
        self.peaks: dict[str, float] = {}
        self.finite = True

    def add(self, outputs: dict[str, Values], inputs: dict[str, bool], observer: _Observer) -> None:
        """Add the outputs of one piece for one batch."""
        self.predicted.update(zip(observer.batch.texts.tolist(), observer.predicted, strict=True))
        self.finite = self.finite and all(bool(np.isfinite(values).all()) for values in outputs.values())
        for name in inputs:
            if f"largest.{name}" in outputs:
                most = outputs[f"largest.{name}"]
                self.largest[name] = np.maximum(self.largest.get(name, most), most)
                rows = observer.texts(outputs[f"rows.{name}"], ends=inputs[name])
                self.rows.setdefault(name, {}).update(rows)

    def add_peaks(self, outputs: dict[str, Values], peaks: Sequence[str]) -> None:
        """Add the largest magnitudes among the outputs of one piece."""
        for name in peaks:
            if f"peak.{name}" in outputs:
                self.peaks[name] = max(self.peaks.get(name, 0.0), float(outputs[f"peak.{name}"]))

    def activations(self, inputs: dict[str, bool]) -> Activations:
        """Return the figures of all texts, in their order."""
        some = np.concatenate([self.predicted[text] for text in range(self.texts)])
        return Activations(
            largest={name: self.largest[name].astype(np.float64) for name in inputs},
            rows={name: np.concatenate([self.rows[name][text] for text in range(self.texts)]) for name in inputs},
            finite=self.finite,
            outputs=self.peaks,
            predicted={name: some for name, ends in inputs.items() if not ends},
        )


def _probe_outputs(graph: ir.Graph) -> Iterator[str]:
    """Add outputs `peak.<name>` for the linear layers and the residual stream to a graph, and yield the names."""
    for node in list(graph):
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        linear = [] if weight is None else [(str(weight.name).removesuffix(".weight"), node.outputs[0])]
        stream = [(str(value.name), value) for value in node.outputs if str(value.name).startswith(RESIDUAL)]
        for name, value in linear + stream:
            largest = _largest(value)
            _give_out(graph, largest[-1], f"peak.{name}")
            # The new nodes follow the node that they read, so that a piece that is cut out has both.
            graph.insert_after(node, largest)
            yield name


def _largest(values: ir.Value | None, *axes: ir.Value) -> list[ir.Node]:
    """Return nodes, of which the last computes the largest magnitude of values, over the given axes or all."""
    magnitudes = ir.node("Abs", [values])
    return [magnitudes, ir.node("ReduceMax", [magnitudes.outputs[0], *axes], attributes={"keepdims": 0})]


def _give_out(graph: ir.Graph, node: ir.Node, name: str) -> None:
    """Make a float32 node's result an output of the graph."""
    (result,) = node.outputs
    result.name, result.type = name, ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(result)


def _probe(graph: ir.Graph, architecture: Architecture) -> Iterator[tuple[str, bool]]:
    """Add outputs `largest.<input>` and `rows.<input>` to a graph.

    Yields:
        The inputs' names, and whether they lie behind the last attention.
    """
    axis = ir.Value(name="token_axis", const_value=ir.tensor(np.array([0], np.int64), name="token_axis"))
    graph.register_initializer(axis)
    picked = ir.val(SAMPLED, ir.DataType.INT64, ["K"])
    graph.inputs.append(picked)
    weights = {node: str(node.inputs[1].name) for node in graph if node.op_type == "MatMul" and node.inputs[1]}
    for node, weight in weights.items():
        source = architecture.input.get(weight.removesuffix(".weight"))
        if source is None:
            continue
        name, values, ends = source.name, node.inputs[0], source.of_answers
        largest = _largest(values, axis)
        some = ir.node("Identity", [values]) if ends else ir.node("Gather", [values, picked])
        graph.insert_before(node, [*largest, some])
        _give_out(graph, largest[-1], f"largest.{name}")
        _give_out(graph, some, f"rows.{name}")
        yield name, ends
