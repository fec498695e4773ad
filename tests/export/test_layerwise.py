"""A graph in pieces gives the bits of the whole, in the memory of a piece."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from quoit.artifact import Artifact, Precision
from quoit.engine.layouts.packed import make_inputs
from quoit.engine.limits import CPU_LIMITS
from quoit.engine.planner import plan_batches
from quoit.ort.probe import int8_is_exact
from quoit.ort.sessions import open_session
from quoit.text.tokenizer import TextTokenizer
from quoit_export.build.staging import Staging, bare_manifest, variant_model
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.families.qwen3 import architecture_of
from quoit_export.families.qwen3.config import Config
from quoit_export.graph.model import Tensors, author_graph
from quoit_export.precisions.table import PRECISIONS
from quoit_export.verify import layerwise
from quoit_export.verify.layerwise import answers, choose_cuts, find_boundaries, run
from quoit_export.verify.parity import held_out, variant_answers
from support import Embedders, Rerankers

COMPARED: tuple[Precision, ...] = ("fp32", "fp16", "int8")
STATUS = Path("/proc/self/status")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block becomes a piece, and few batches go through at a time."""
    monkeypatch.setattr(layerwise, "PIECE_BYTES", 1)
    monkeypatch.setattr(layerwise, "CARRIED_BYTES", 500_000)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("precision", COMPARED)
def test_vectors_are_those_of_the_runtime(artifact: Artifact, embedders: Embedders, precision: Precision) -> None:
    """Of the graph that runs here, which may have native kernels."""
    embedder = embedders(precision)
    (found,) = variant_answers(artifact, precision, [held_out()], embedder.pipeline.session.graph)
    np.testing.assert_array_equal(found, embedder.encode(held_out().texts))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("precision", COMPARED)
def test_scores_are_those_of_the_runtime(rerank_artifact: Artifact, rerankers: Rerankers, precision: Precision) -> None:
    reranker = rerankers(precision)
    (found,) = variant_answers(rerank_artifact, precision, [held_out()], reranker.pipeline.session.graph)
    expected = reranker.predict(held_out().pairs, activation="logit")
    np.testing.assert_array_equal(found.ravel(), expected)


@pytest.mark.parametrize("most", [1, 1 << 18, 1 << 30])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_graph_gives_the_same_bits_whole_in_pieces_and_before_it_is_written(
    tmp_path: Path, byte_checkpoint_folder: Path, precision: Precision, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    bare = bare_manifest(checkpoint)
    Staging.open(tmp_path / "staging", checkpoint, bare).write_variant(checkpoint, precision)
    graph = tmp_path / "staging" / precision / "model.onnx"
    rows = TextTokenizer.load(checkpoint.tokenizer_file, bare).encode(held_out().texts).ids
    batches = list(plan_batches(rows, CPU_LIMITS))
    whole = layerwise._open(ir.load(graph)) if not int8_is_exact() else open_session(graph)
    expected = [whole.run(None, make_inputs(batch))[0] for batch in batches]
    monkeypatch.setattr(layerwise, "PIECE_BYTES", most)
    # bf16 is always written before it is run, and onnxruntime takes no tensors of that type from numpy.
    authored = [] if precision == "bf16" else [variant_model(checkpoint, precision)]
    for model in (ir.load(graph), *authored):
        for found, one in zip(answers(model, batches, "test"), expected, strict=True):
            np.testing.assert_array_equal(found, one)


def authored(layers: int) -> ir.Model:
    """A graph of random tensors: 4.5 MB a layer in float32, and a token table of 0.5 MB."""
    config = Config(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        vocab_size=512,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
    )
    architecture = architecture_of(config)
    shapes = architecture.tensors

    def read(name: str) -> NDArray[np.float32]:
        values = np.random.default_rng(len(name)).standard_normal(shapes[name], dtype=np.float32)
        return values * np.float32(0.05) + np.float32(len(shapes[name]) == 1)

    return author_graph(architecture, 1024, PRECISIONS["fp32"].encoding, Tensors(read))


def test_cuts_leave_pieces_of_the_size_asked_for_and_as_few_as_can_be() -> None:
    graph = authored(6).graph
    boundaries = list(find_boundaries(graph))
    # Before the first norm, and behind every block but the last.
    assert len(boundaries) == 1 + 2 * 6 - 1
    assert choose_cuts(graph, boundaries, 1) == boundaries
    assert choose_cuts(graph, boundaries, 1 << 40) == []
    layer = 4 * (3 * 256 * 1024 + 2 * 256 * 512 + 2 * 256 * 256)
    cuts = choose_cuts(graph, boundaries, 2 * layer + 600_000)
    assert [boundaries.index(cut) for cut in cuts] == [4, 8], "two layers a piece, and the table with the first"


@pytest.mark.skipif(not STATUS.is_file(), reason="memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_layers() -> None:
    """Neither that of the tensors nor that of onnxruntime's own copies: forty layers have 180 MB, and a piece has 9."""
    (batch,) = plan_batches([list(range(2, 380))], CPU_LIMITS)
    peaks = {}
    for layers in (4, 40):
        start = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        # An output that is kept must not keep the rest of what its piece computed.
        model = authored(layers)
        model.graph.outputs.extend(boundary.values[0] for boundary in find_boundaries(model.graph))
        kept = [found for _, found in run(model, [make_inputs(batch)], "test", 9 << 20)]
        assert sum(map(len, kept)) == 1 + 4 * layers, (
            "the answer, and of each layer two streams and the keys and values to keep"
        )
        peaks[layers] = resident("VmHWM") - start
    assert peaks[40] < peaks[4] + (30 << 20)


def resident(name: str) -> int:
    """A line of this process's memory, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) << 10


def test_a_graph_without_a_residual_stream_is_run_as_it_is() -> None:
    tape = Tape()
    ids = ir.val("input_ids", ir.DataType.INT64, ["T"])
    total = tape.op("Add", [ids, ids])
    total.name, total.shape, total.dtype = "total", ir.Shape(["T"]), ir.DataType.INT64
    graph = ir.Graph([ids], [total], nodes=tape.nodes, opset_imports={"": 20}, name="sum")
    assert list(find_boundaries(graph)) == []
    ((number, outputs),) = run(ir.Model(graph, ir_version=10), [{"input_ids": np.arange(3)}], "whole", most=1)
    assert number == 0
    np.testing.assert_array_equal(outputs["total"], [0, 2, 4])
