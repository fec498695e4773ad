"""The graph that CUDA runs: its interface, its attention nodes, and that it means what the CPU's does.

Its kernels are on GPUs alone. What can be held here: it is valid, its tensors are those that were measured, and with
its attention nodes taken apart into ones that a CPU has, it gives the CPU graph's answers.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from architectures import architecture_of
from quoit.artifact import Artifact, GraphName, Precision
from quoit.engine.layouts import find_layout, padded
from quoit.engine.planner import Batch, Limits, plan_batches
from quoit.ort.module import onnxruntime
from quoit.ort.sessions import ONNX_NAMES
from quoit_export.build.staging import GRAPHS, variant_model
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.graph.attention import Attention, packing
from quoit_export.graph.targets import CUDA, declare_inputs
from quoit_export.precisions.encoding import MICROSOFT, Author

FLOAT = ir.DataType.FLOAT
HALVES: tuple[Precision, ...] = ("fp16", "bf16")
ON_CUDA: tuple[Precision, ...] = (*HALVES, "int4")
RUN_BY_CUDA = {
    "Cast",
    "DequantizeLinear",
    "Gather",
    "GroupQueryAttention",
    "MatMul",
    "MatMulNBits",
    "Mul",
    "QuickGelu",
    "ReduceSum",
    "Reshape",
    "SimplifiedLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}
"""Nodes with a CUDA kernel of 16 bits and no other place to run; among them none that computes a shape."""
LIMITS = Limits(stream_tokens=400, rectangle_tokens=1000)


@pytest.fixture(scope="module")
def artifact(half_artifact: Artifact) -> Artifact:
    return half_artifact


def cuda_graph(artifact: Artifact, precision: Precision) -> Any:
    return onnx.load(str(artifact.folder / precision / GRAPHS["cuda"]), load_external_data=False)


def test_gqa_has_the_norms_where_they_are_put() -> None:
    """In the schema of the onnxruntime that is installed."""
    (schema,) = (
        schema
        for schema in get_all_operator_schema()
        if (schema.domain, schema.name) == (MICROSOFT, "GroupQueryAttention")
    )
    names = [value.name for value in schema.inputs]
    assert names[:9] == [
        "query",
        "key",
        "value",
        "past_key",
        "past_value",
        "seqlens_k",
        "total_sequence_length",
        "cos_cache",
        "sin_cache",
    ]
    assert names[14:16] == ["q_norm_weight", "k_norm_weight"]
    assert "qk_norm_epsilon" in schema.attributes
    assert [value.name for value in schema.outputs][:3] == ["output", "present_key", "present_value"]


@pytest.mark.parametrize("precision", HALVES)
def test_attention_is_one_node_of_packed_rows_with_norms_and_positions(
    artifact: Artifact, precision: Precision
) -> None:
    graph = cuda_graph(artifact, precision).graph
    nodes = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    assert len(nodes) == architecture_of(artifact).attention.num_hidden_layers
    kind = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    for layer, node in enumerate(nodes):
        named = list(node.input)
        assert named[1:5] == [""] * 4, "q, k and v are packed, and nothing is past"
        assert named[5:9] == ["row_lengths", "longest_row", f"rope_cos_{kind}", f"rope_sin_{kind}"]
        assert named[9:14] == [""] * 5, "no positions, and no bias, which would keep it from flash attention"
        assert named[14:] == [f"layers.{layer}.self_attn.{norm}.weight" for norm in ("q_norm", "k_norm")]
        assert len(node.output) == 3, "the kernel writes present keys and values"
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert attributes["do_rotary"] == 1
        assert attributes["qk_norm_epsilon"] == np.float32(architecture_of(artifact).attention.rms_norm_eps)


@pytest.mark.parametrize("precision", ON_CUDA)
def test_no_node_needs_the_cpu(artifact: Artifact, precision: Precision) -> None:
    assert {node.op_type for node in cuda_graph(artifact, precision).graph.node} <= RUN_BY_CUDA


@pytest.mark.parametrize("precision", ON_CUDA)
def test_inputs_are_those_that_the_runtime_feeds(artifact: Artifact, precision: Precision) -> None:
    (batch,) = plan_batches([[1, 2, 3], [1, 2]], LIMITS)
    fed = padded.make_inputs(batch)
    graph = cuda_graph(artifact, precision).graph
    assert [value.name for value in graph.input] == list(fed)
    kinds = [onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in graph.input]
    assert kinds == [values.dtype for values in fed.values()]
    assert [len(value.type.tensor_type.shape.dim) for value in graph.input] == [v.ndim for v in fed.values()]
    assert int(fed["longest_row"]) == 3


@pytest.mark.parametrize("precision", HALVES)
def test_only_tokens_and_last_rows_are_gathered(artifact: Artifact, precision: Precision) -> None:
    """The rows of the token table; the last rows' residual and attention."""
    gathers = [list(node.input) for node in cuda_graph(artifact, precision).graph.node if node.op_type == "Gather"]
    assert [indices for _, indices in gathers] == ["input_ids", "last_row", "last_row"]


def test_cuda_is_fed_rows_side_by_side() -> None:
    """Each with its last token repeated behind its end, and the places of the last ones."""
    (batch,) = plan_batches([[7, 8, 9], [7, 8]], LIMITS)
    fed = padded.make_inputs(batch)
    assert fed["input_ids"].tolist() == [7, 8, 8, 7, 8, 9]
    assert fed["last_row"].tolist() == [1, 5]
    assert fed["row_lengths"].tolist() == [1, 2]
    assert fed["rectangle"].tolist() == [2, 3, -1]


@pytest.mark.parametrize("precision", ON_CUDA)
def test_the_graph_is_valid(artifact: Artifact, tmp_path: Path, precision: Precision) -> None:
    """onnxruntime has SimplifiedLayerNormalization in the standard domain, where onnx's checker does not know it."""
    model = cuda_graph(artifact, precision)
    for node in model.graph.node:
        if node.op_type == "SimplifiedLayerNormalization":
            node.domain = MICROSOFT
    onnx.save(model, str(tmp_path / "model.onnx"))
    shutil.copyfile(artifact.folder / precision / "model.onnx.data", tmp_path / "model.onnx.data")
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


def test_onnxruntime_reads_it_and_types_agree(artifact: Artifact) -> None:
    """As far as a CPU goes: it loads, and the attention node says that it wants another provider."""
    file = artifact.folder / "fp16" / GRAPHS["cuda"]
    session: Any = onnxruntime().InferenceSession(str(file), providers=[ONNX_NAMES["cpu"]])
    (batch,) = plan_batches([[1, 2, 3]], LIMITS)
    with pytest.raises(Exception, match="q_norm_weight"):
        session.run(None, padded.make_inputs(batch))


def test_onnxruntime_finds_the_types_of_int4_to_agree(artifact: Artifact) -> None:
    """A CPU has no kernels of bfloat16, and a node says so only after all types were found to agree."""
    file = artifact.folder / "int4" / GRAPHS["cuda"]
    with pytest.raises(Exception, match="Could not find an implementation for"):
        onnxruntime().InferenceSession(str(file), providers=[ONNX_NAMES["cpu"]])


@pytest.mark.parametrize("precision", ON_CUDA)
def test_both_graphs_have_the_same_tensors(artifact: Artifact, precision: Precision) -> None:
    """What was measured on a CPU is what CUDA computes with: the same bytes of the same file."""
    measured: GraphName = "emulated" if precision == "int4" else "cpu"
    stored = [
        {
            tensor.name: {entry.key: entry.value for entry in tensor.external_data} or tensor.raw_data
            for tensor in onnx.load(str(artifact.folder / precision / name), load_external_data=False).graph.initializer
        }
        for name in (GRAPHS[measured], GRAPHS["cuda"])
    ]
    cpu, cuda = stored
    assert {name: cpu[name] for name in cuda} == cuda
    large = [name for name, place in cpu.items() if isinstance(place, dict)]
    assert set(large) <= set(cuda)
    packed = [name for name in cuda if name.endswith("qkv_proj.weight")]
    assert len(packed) == (0 if precision == "int4" else architecture_of(artifact).attention.num_hidden_layers)


def test_packed_rows_are_those_of_q_k_and_v(byte_checkpoint_folder: Path) -> None:
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    read, packed = checkpoint.tensor, checkpoint.architecture.packed
    found = packing(read, packed)("layers.1.self_attn.qkv_proj.weight")
    parts = [read(f"layers.1.self_attn.{part}_proj.weight") for part in "qkv"]
    np.testing.assert_array_equal(found, np.concatenate(parts))
    np.testing.assert_array_equal(packing(read, packed)("norm.weight"), read("norm.weight"))


def take_apart(model: ir.Model, artifact: Artifact) -> None:
    """Replaces every attention node by a split, two norms and an attention node that CPUs run."""
    numbers, graph = architecture_of(artifact).attention, model.graph
    for node in [node for node in graph if node.op_type == "GroupQueryAttention"]:
        author = Author(lambda name: np.empty(0))
        author.names.update({"taken": id(node)})
        attention = Attention(author, numbers, FLOAT, FLOAT, declare_inputs(CUDA, numbers), 1, CUDA)
        (packed, lengths, longest, cos, sin, *_), norms = [v for v in node.inputs if v is not None], node.inputs[14:]
        parts = attention.split(packed)
        normed = []
        for part, norm, heads in zip(
            parts, norms, (numbers.num_attention_heads, numbers.num_key_value_heads), strict=False
        ):
            shapes = [
                author.constant(f"{kind}_{heads}_{node.name}", np.array(shape, np.int64))
                for kind, shape in (("split", [0, 0, heads, -1]), ("merge", [0, 0, -1]))
            ]
            rows = author.op("Reshape", part, shapes[0])
            rows = author.op("SimplifiedLayerNormalization", rows, norm, axis=-1, epsilon=1e-6, stash_type=1)
            normed.append(author.op("Reshape", rows, shapes[1]))
        sizes = {key: node.attributes[key].as_int() for key in ("num_heads", "kv_num_heads", "do_rotary")}
        inputs = [*normed, parts[2], None, None, lengths, longest, cos, sin]
        context = author.op("GroupQueryAttention", *inputs, domain=MICROSOFT, **sizes)
        for added in author.tape.nodes:
            added.name = f"{node.name}.{added.name}"
            for value in added.outputs:
                value.name = f"{node.name}.{value.name}"
        for value in author.tape.initializers:
            value.name = f"{node.name}.{value.name}"
            graph.register_initializer(value)
        graph.insert_before(node, author.tape.nodes)
        node.outputs[0].replace_all_uses_with(context)
        graph.remove(node, safe=True)


def answers(model: ir.Model, batches: Iterator[Batch], layout: str) -> list[NDArray[np.float32]]:
    serialized = ir.to_proto(model).SerializeToString()
    session: Any = onnxruntime().InferenceSession(serialized, providers=[ONNX_NAMES["cpu"]])
    return [session.run(None, find_layout(layout).make_inputs(batch))[0] for batch in batches]


@pytest.mark.parametrize("share_prefixes", [True, False])
def test_taken_apart_it_gives_the_cpu_graphs_answers(
    byte_artifact: Artifact, byte_checkpoint_folder: Path, share_prefixes: bool
) -> None:
    """In float32, on rows of several lengths that share prefixes."""
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 256, length).tolist() for length in (1, 2, 9, 40, 130)]
    rows += [[*rows[3], 7, 8], [*rows[3][:20], 9]]
    limits = Limits(400, 1000, share_prefixes=share_prefixes)
    cuda = variant_model(checkpoint, "fp32", target=CUDA)
    take_apart(cuda, byte_artifact)
    cpu = variant_model(checkpoint, "fp32")
    found = answers(cuda, plan_batches(rows, limits), "padded")
    expected = answers(cpu, plan_batches(rows, limits), "packed")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
