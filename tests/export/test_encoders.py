"""How precisions store and compute linear layers."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from architectures import architecture_of
from quoit.artifact import Artifact, Precision
from quoit_export.precisions.encoding import MICROSOFT
from quoit_export.precisions.int8 import INT8_MAX, quantize_outputs

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
PADDING_OPS = {"Pad", "Where", "NonZero", "Compress", "Trilu", "Range", "ScatterND", "ScatterElements", "CumSum"}
LINEAR_LAYERS = 7
PRODUCTS: dict[Precision, int] = {"fp32": 7, "fp16": 5, "int8": 7}
"""Per layer; where there are five, q, k and v are one."""
QUANTIZED_INPUTS = 4
"""Per layer: what q, k and v read; what o reads; what gate and up read; what down reads."""


def load_graph(artifact: Artifact, precision: Precision) -> Any:
    """The model of a variant, its tensors left on disk."""
    return onnx.load(str(artifact.folder / precision / "model.onnx"), load_external_data=False)


def all_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


def count_ops(artifact: Artifact, precision: Precision) -> Counter[str]:
    return Counter(node.op_type for node in all_nodes(load_graph(artifact, precision).graph))


def random_weight(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """Rows of very different size."""
    generator = np.random.default_rng(seed)
    rows = 10.0 ** generator.uniform(-6, 3, (shape[0], 1))
    return (generator.standard_normal(shape) * rows).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 32), (40, 300)])
def test_quantized_weights_have_a_scale_per_output(shape: tuple[int, int]) -> None:
    quantized, scale = quantize_outputs(random_weight(shape))
    assert quantized.shape == shape
    assert quantized.dtype == np.int8
    assert scale.shape == shape[:1]
    assert scale.dtype == np.float32
    assert (scale > 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_at_most_half_a_step(seed: int) -> None:
    weight = random_weight((64, 256), seed)
    quantized, scale = quantize_outputs(weight)
    restored = quantized.astype(np.float64) * scale[:, None]
    steps = np.abs(restored - weight) / scale[:, None]
    assert steps.max() <= 0.5 + 1e-5


def test_quantization_is_symmetric() -> None:
    weight = random_weight((64, 256))
    quantized, scale = quantize_outputs(weight)
    negated, same_scale = quantize_outputs(-weight)
    np.testing.assert_array_equal(negated, -quantized)
    np.testing.assert_array_equal(same_scale, scale)
    np.testing.assert_array_equal(np.abs(quantized.astype(int)).max(axis=1), INT8_MAX)


def test_an_output_does_not_see_the_others() -> None:
    weight = random_weight((16, 64))
    quantized, scale = quantize_outputs(weight)
    alone, one_scale = quantize_outputs(weight[5:6])
    np.testing.assert_array_equal(alone[0], quantized[5])
    assert one_scale[0] == scale[5]


def test_an_output_of_zeros_stays_zero() -> None:
    weight = random_weight((4, 8))
    weight[2] = 0
    quantized, scale = quantize_outputs(weight)
    assert not quantized[2].any()
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    assert quantized[[0, 1, 3]].any(axis=1).all()


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_the_stored_dtype_does_not_matter(dtype: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 16)).astype(ml_dtypes.bfloat16).astype(dtype)
    quantized, scale = quantize_outputs(weight)
    expected, expected_scale = quantize_outputs(weight.astype(np.float32))
    np.testing.assert_array_equal(quantized, expected)
    np.testing.assert_array_equal(scale, expected_scale)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_graph_is_valid(artifact: Artifact, tmp_path: Path, precision: Precision) -> None:
    """onnxruntime has SimplifiedLayerNormalization in the standard domain, where onnx's checker does not know it."""
    model = load_graph(artifact, precision)
    for node in all_nodes(model.graph):
        if node.op_type == "SimplifiedLayerNormalization":
            node.domain = MICROSOFT
    onnx.save(model, str(tmp_path / "model.onnx"))
    shutil.copyfile(artifact.folder / precision / "model.onnx.data", tmp_path / "model.onnx.data")
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_names_are_unique_across_subgraphs(artifact: Artifact, precision: Precision) -> None:
    nodes = list(all_nodes(load_graph(artifact, precision).graph))
    outputs = [output for node in nodes for output in node.output if output]
    assert len(set(outputs)) == len(outputs)
    assert len({node.name for node in nodes}) == len(nodes)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_is_padded(artifact: Artifact, precision: Precision) -> None:
    assert not PADDING_OPS & set(count_ops(artifact, precision))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_graphs_multiply_once_per_linear_layer(artifact: Artifact, precision: Precision) -> None:
    counts = count_ops(artifact, precision)
    layers = architecture_of(artifact).attention.num_hidden_layers
    assert counts["MatMul"] == PRODUCTS[precision] * layers
    assert not any("Quantize" in op or "Integer" in op for op in counts)


def test_int8_quantizes_once_or_twice_per_group_and_multiplies_integers_only(artifact: Artifact) -> None:
    counts = count_ops(artifact, "int8")
    layers = architecture_of(artifact).attention.num_hidden_layers
    record = artifact.manifest.variants["int8"].quantization
    assert record is not None
    again = [architecture_of(artifact).input[name] for name in record.second_pass]
    assert counts["QuantizeLinear"] == QUANTIZED_INPUTS * layers + len(again)
    assert counts["MatMulIntegerToFloat"] == LINEAR_LAYERS * layers + sum(len(one.linears) for one in again)
    assert record.float32_layers == ()
    assert counts["MatMul"] == record.method.startswith("rotate"), "what turns the last tokens' states back"
    assert counts["DequantizeLinear"] == record.int8_table + len(again)
    assert counts["ReduceMax"] == QUANTIZED_INPUTS * layers - len(record.steps), (
        "fixed steps spare the look at the rows"
    )
    assert not {"Gemm", "FusedMatMul", "DynamicQuantizeLinear"} & set(counts)


def test_int8_activations_are_quantized_row_by_row_or_in_fixed_steps(artifact: Artifact) -> None:
    """A scale that is found over several rows would make a text's vector depend on its batch."""
    graph = load_graph(artifact, "int8").graph
    nodes = list(all_nodes(graph))
    producers = {output: node for node in nodes for output in node.output}
    fixed = {tensor.name for tensor in graph.initializer}
    quantizers = [node for node in nodes if node.op_type == "QuantizeLinear"]
    steps = [node for node in quantizers if node.input[1] in fixed]
    record = artifact.manifest.variants["int8"].quantization
    assert record is not None
    assert {node.input[1] for node in steps} == {f"{name}.step" for name in record.steps}
    for node in quantizers:
        if node not in steps:
            assert [attribute.i for attribute in node.attribute if attribute.name == "axis"] == [0]
            assert producers[node.input[2]].op_type in {"Expand", "GatherND"}, "one zero point per row"


@pytest.mark.parametrize(
    ("precision", "table", "linear"),
    [
        ("fp32", onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT),
        ("fp16", onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT16),
        ("int8", onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8),
    ],
)
def test_weights_are_stored_as_the_precision_says(
    artifact: Artifact, precision: Precision, table: int, linear: int
) -> None:
    stored = {tensor.name: tensor for tensor in load_graph(artifact, precision).graph.initializer}
    record = artifact.manifest.variants[precision].quantization
    if record is not None and record.int8_table:
        assert stored["embed_tokens.weight_int8"].data_type == onnx.TensorProto.INT8
        assert stored["embed_tokens.weight_scale"].dims == [artifact.manifest.vocab_size]
    else:
        assert stored["embed_tokens.weight"].data_type == table
    weights = [tensor for name, tensor in stored.items() if "proj.weight" in name and not name.endswith("_scale")]
    assert len(weights) == PRODUCTS[precision] * architecture_of(artifact).attention.num_hidden_layers
    assert {tensor.data_type for tensor in weights} == {linear}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_large_tensors_lie_apart_and_on_pages(artifact: Artifact, precision: Precision) -> None:
    """Tensors of a page or more can be mapped where they lie."""
    for tensor in load_graph(artifact, precision).graph.initializer:
        outside = {entry.key: entry.value for entry in tensor.external_data}
        if int(outside.get("length", 0)) >= 4096:
            assert outside["location"] == "model.onnx.data"
            assert int(outside["offset"]) % 4096 == 0
        assert len(tensor.raw_data) < 4096
