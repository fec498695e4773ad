"""Predicted errors are those of onnxruntime's kernels, on the nodes that the encodings author."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from architectures import architecture_of
from quoit.artifact import Artifact
from quoit.ort.probe import exact_int8
from quoit.ort.sessions import open_session
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.graph.model import IR_VERSION, OPSET
from quoit_export.precisions.encoding import MICROSOFT, Author, Encoding, ReadTensor, Rows
from quoit_export.precisions.int4 import Int4Encoding
from quoit_export.precisions.int8 import ALL_ROWS, Int8Encoding
from quoit_export.quantize.calibration import Activations, built_in_texts, calibration_rows, observe
from quoit_export.quantize.folding import Values
from quoit_export.quantize.methods import Method, fold
from quoit_export.quantize.quant_error import (
    INT4,
    INT8,
    INT8_TWICE,
    INT8_UNEVEN_TWICE,
    UNEVEN,
    Arithmetic,
    in_steps,
    input_error,
    round_evenly,
    round_row_blocks,
    round_rows,
    round_twice,
    round_uneven_twice,
)
from quoit_export.verify.layerwise import separate_products
from quoit_export.verify.parity import load_variant

NAME = "layers.1.mlp.gate_proj"
LINEARS = (NAME, "layers.1.mlp.up_proj")
STEP = 0.04


@pytest.fixture(scope="module")
def activations(artifact: Artifact) -> Activations:
    return observe(
        load_variant(artifact, "fp32"), architecture_of(artifact), calibration_rows(artifact, built_in_texts())
    )[0]


def run_linears(encoding: Encoding, read: ReadTensor, rows: Values) -> list[Values]:
    """What the linear layers that read one input make of rows, in onnxruntime."""
    author = Author(read)
    x, tokens = ir.val("x", ir.DataType.FLOAT, ["T", rows.shape[1]]), ir.val("tokens", ir.DataType.INT64, ["T"])
    names = LINEARS
    prepared = encoding.prepare(author, Rows(x), tokens, names)
    outputs = []
    shapes = {name: (len(read(f"{name}.weight")), rows.shape[1]) for name in names}
    for product in encoding.linears(author, prepared, shapes):
        outputs.append(product.values if product.scale is None else author.op("Mul", product.values, product.scale))
        outputs[-1].type = ir.TensorType(ir.DataType.FLOAT)
    opsets = {"": OPSET, MICROSOFT: 1}
    tape = author.tape
    graph = ir.Graph(
        [x, tokens], outputs, nodes=tape.nodes, initializers=tape.initializers, opset_imports=opsets, name="linears"
    )
    separate_products(graph)
    model = ir.to_proto(ir.Model(graph, ir_version=IR_VERSION)).SerializeToString()
    found: list[Values] = open_session(model, config=exact_int8()).run(
        None, {"x": rows, "tokens": np.zeros(len(rows), np.int64)}
    )
    return found


@pytest.mark.parametrize("method", [Method(), Method(0.5), Method(0.5, rotated=True, heads=True)])
@pytest.mark.parametrize(
    ("encoding", "arithmetic", "least", "most"),
    [
        (Int8Encoding(), INT8, 1e-6, 1e-3),
        (Int8Encoding(second_pass={NAME: ALL_ROWS}), INT8_TWICE, 1e-7, 1e-3),
        (Int8Encoding(second_pass={NAME: UNEVEN / np.sqrt(64)}), INT8_UNEVEN_TWICE, 1e-6, 1e-3),
        (Int8Encoding(steps={NAME: STEP}), in_steps(STEP), 1e-6, 1e-2),
        (Int4Encoding(), INT4, 1e-3, 5e-2),
        (Int4Encoding(int8_layers=frozenset(LINEARS)), INT8, 1e-6, 1e-3),
        (Int4Encoding(Int8Encoding(float32_layers=frozenset(LINEARS))), None, 0, 1e-10),
    ],
)
def test_predicted_errors_are_those_of_onnxruntime(
    checkpoint: Checkpoint,
    activations: Activations,
    method: Method,
    encoding: Encoding,
    arithmetic: Arithmetic | None,
    least: float,
    most: float,
) -> None:
    read = checkpoint.tensor
    folding = fold(read, checkpoint.architecture, activations, method, checkpoint.architecture.input)
    rows = folding.activations(read, NAME, activations.sample(NAME))
    folded = folding.reader(read)
    errors = []
    for linear, found in zip(LINEARS, run_linears(encoding, folded, rows), strict=True):
        exact = rows.astype(np.float64) @ folded(f"{linear}.weight").T
        errors.append(np.mean(np.sum((found - exact) ** 2, axis=1) / np.sum(exact**2, axis=1)))
    assert least <= np.mean(errors) < most
    if arithmetic is not None:
        assert input_error(folding, read, NAME, activations, arithmetic) == pytest.approx(np.mean(errors), rel=0.01)


ROUNDINGS: list[Callable[[Values], Values]] = [
    round_rows,
    round_twice,
    round_uneven_twice,
    round_row_blocks,
    lambda rows: round_evenly(rows, STEP),
]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("width", [1, 31, 32, 64, 100])
def test_rounding_errs_by_half_a_step(rounding: Callable[[Values], Values], width: int) -> None:
    rows = np.random.default_rng(width).standard_normal((20, width)).astype(np.float32)
    rows[3] = 0
    rounded = rounding(rows)
    assert rounded.shape == rows.shape
    most = max(STEP, np.abs(rows).max() / 127)
    assert np.abs(rounded - rows).max() <= 0.5001 * most
    assert not rounded[3].any()


def test_what_is_beyond_a_fixed_step_is_clipped() -> None:
    rows = np.array([[0.26, -0.24, 12.7, 12.9, -12.8, -13.0]], np.float32)
    np.testing.assert_allclose(round_evenly(rows, 0.1), [[0.3, -0.2, 12.7, 12.7, -12.8, -12.8]], rtol=1e-6)


def test_a_row_is_rounded_whatever_is_beside_it() -> None:
    rows: NDArray[Any] = np.random.default_rng(0).standard_normal((9, 96)).astype(np.float32)
    for rounding in ROUNDINGS:
        np.testing.assert_array_equal(rounding(rows)[4:5], rounding(rows[4:5]))
