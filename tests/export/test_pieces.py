"""A graph run piece by piece gives the bits of the whole one, whatever type passes between the pieces."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.tape import Tape

from quoit.artifact import Artifact, Precision
from quoit.batches import plan_batches
from quoit.pipeline import CPU_LIMITS
from quoit.session import ONNX_NAMES, feed, onnxruntime
from quoit_export.parity import held_out, load_variant, parity_rows
from quoit_export.pieces import find_boundaries, run


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_pieces_give_the_bits_of_the_whole_graph(
    half_artifact: Artifact, byte_artifact: Artifact, precision: Precision
) -> None:
    """Cut at every boundary: before the first layer, and behind each attention and each MLP but the last."""
    artifact = byte_artifact if precision == "int8" else half_artifact
    model = load_variant(artifact, precision)
    (name,) = [str(output.name) for output in model.graph.outputs]
    feeds = [feed(batch) for batch in plan_batches(parity_rows(artifact, held_out())[:12], CPU_LIMITS)]
    file = artifact.folder / precision / "model.onnx"
    session = onnxruntime().InferenceSession(str(file), providers=[ONNX_NAMES["cpu"]])
    expected = [session.run([name], one)[0] for one in feeds]
    found = list(run(model, feeds, "in pieces", most=1))
    blocks = 2 * artifact.manifest.architecture.num_hidden_layers
    assert len(found) >= (1 + blocks - 1) * len(feeds), "so many pieces"
    given = {number: outputs[name] for number, outputs in found if name in outputs}
    for number, values in enumerate(expected):
        np.testing.assert_array_equal(given[number], values)


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
