"""Int4 as CUDA computes it: the products of each way of storing a linear layer, and their parity."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from quoit.artifact import Artifact
from quoit.ort.module import onnxruntime
from quoit.ort.sessions import ONNX_NAMES
from quoit_export.graph.emulation import emulate
from quoit_export.precisions.blocks import BLOCK
from quoit_export.precisions.encoding import Author, Rows
from quoit_export.precisions.int4 import Int4Encoding
from quoit_export.precisions.int8 import Int8Encoding
from quoit_export.precisions.table import PRECISIONS
from quoit_export.precisions.weight_only import WeightOnlyEncoding, weight_only

ROWS, INPUTS, OUTPUTS = 5, 3 * BLOCK, 48
WHERE = {"four": Int4Encoding(), "eight": Int4Encoding(int8_layers=frozenset({"a"}))}
WHERE["float"] = Int4Encoding(Int8Encoding(float32_layers=frozenset({"a"})))
STEPS = {"four": 7, "eight": 127, "float": np.inf}
"""Of the largest magnitude that shares a scale."""


def run(encoding: WeightOnlyEncoding, x: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """A linear layer of bfloat16 as a CPU emulates it, between casts from and to float32."""
    author = Author(lambda _: weight)
    given = ir.val("x", ir.DataType.FLOAT, [None, weight.shape[1]])
    rows = Rows(author.op("Cast", given, to=ir.DataType.BFLOAT16))
    tokens = ir.val("tokens", ir.DataType.INT64, [None])
    made = encoding.linear(author, encoding.prepare(author, rows, tokens, ["a"]), "a", (weight.shape[0], len(weight.T)))
    assert made.scale is None
    result = author.op("Cast", made.values, to=ir.DataType.FLOAT)
    result.name, result.dtype, result.shape = "y", ir.DataType.FLOAT, ir.Shape([None, len(weight)])
    opsets = {"": 20, "com.microsoft": 1}
    tape = author.tape
    graph = ir.Graph([given], [result], nodes=tape.nodes, initializers=tape.initializers, opset_imports=opsets)
    emulate(graph, ir.DataType.BFLOAT16)
    session: Any = onnxruntime().InferenceSession(
        ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString(), providers=[ONNX_NAMES["cpu"]]
    )
    found: NDArray[np.float32] = session.run(["y"], {"x": x})[0]
    return found


@pytest.mark.parametrize("stored", WHERE)
def test_a_product_errs_by_its_weights_alone(stored: str) -> None:
    """Exact values in bfloat16; of a weight, half a step of the largest magnitude that shares its scale."""
    generator = np.random.default_rng(0)
    x = generator.integers(-8, 9, (ROWS, INPUTS)).astype(np.float32)
    weight = generator.standard_normal((OUTPUTS, INPUTS)).astype(np.float32)
    found, exact = run(WeightOnlyEncoding(WHERE[stored]), x, weight), x @ weight.T
    half_step = np.abs(weight).max() / STEPS[stored] / 2
    rounding = 2.0**-8 * (np.abs(x) @ np.abs(weight).T)
    assert (np.abs(found - exact) <= half_step * np.abs(x).sum(axis=1, keepdims=True) + rounding).all()
    errors = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert errors < {"four": 0.15, "eight": 0.01, "float": 0.005}[stored]


def test_others_have_no_such_form() -> None:
    assert weight_only(PRECISIONS["fp16"].encoding) is PRECISIONS["fp16"].encoding
    assert weight_only(PRECISIONS["int8"].encoding) is PRECISIONS["int8"].encoding
    assert isinstance(weight_only(PRECISIONS["int4"].encoding), WeightOnlyEncoding)


def test_its_parity_is_measured_and_held_to_the_floors(half_artifact: Artifact) -> None:
    """It is nearer to fp32 than the CPU's graph, or about as near: bfloat16 errs less than integers do."""
    found = {one.graph: one for one in half_artifact.variant("int4").parity[::-1] if one.measure == "cosine"}
    cuda, cpu = found["emulated"], found["cpu"]
    assert (cuda.texts, cuda.samples, cuda.floor, cuda.mean_floor) == ("held-out", 68, cpu.floor, cpu.mean_floor)
    assert 1 - cuda.mean <= 1.1 * (1 - cpu.mean)
    assert cuda.note == " as CUDA computes"
