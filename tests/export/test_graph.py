"""The decoder's graph: its interface, its position tables, and how many rows each layer computes."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from architectures import architecture_of
from quoit.artifact import Artifact, Precision
from quoit_export.graph.attention import rope_tables
from support import SMALL

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
POSITIONS = 32_768
ULP = 2.0**-24
"""The distance between float32 neighbours from a half to one."""

Feeds = dict[str, NDArray[Any]]


def reference_tables(head_dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """transformers' cos and sin, [POSITIONS, head_dim / 2]; it stores every frequency twice."""
    sizes: dict[str, Any] = SMALL | {"head_dim": head_dim}
    rotary: Any = Qwen3RotaryEmbedding(Qwen3Config(**sizes))
    cos, sin = rotary(torch.zeros(1), torch.arange(POSITIONS)[None])
    half = head_dim // 2
    assert torch.equal(cos[..., :half], cos[..., half:])
    return cos[0, :, :half].numpy(), sin[0, :, :half].numpy()


def input_shape(value: Any) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def load_graph(artifact: Artifact, precision: Precision) -> Any:
    """The model of a variant, its tensors left on disk."""
    return onnx.load(str(artifact.folder / precision / "model.onnx"), load_external_data=False)


def one_text(ids: list[int], last_rows: list[int]) -> Feeds:
    """The feeds of one text without padding, of which any rows may be asked for."""
    count = len(ids)
    return {
        "input_ids": np.array(ids, np.int64),
        "attention_index": np.arange(count, dtype=np.int64)[None],
        "row_lengths": np.array([count - 1], np.int32),
        "stream_slot": np.arange(count, dtype=np.int64),
        "last_row": np.array(last_rows, np.int64),
        "tiled_attention": np.array(False),
    }


@pytest.fixture
def run_nodes(artifact: Artifact, tmp_path: Path) -> Callable[[Precision, str, Feeds], dict[str, NDArray[Any]]]:
    """Runs a variant and gives the first output of each node of a kind that reads a weight, by the weight's name."""

    def run(precision: Precision, kind: str, feeds: Feeds) -> dict[str, NDArray[Any]]:
        model = load_graph(artifact, precision)
        nodes = [node for node in model.graph.node if node.op_type == kind]
        weights = {node.output[0]: node.input[1].removeprefix("wide.") for node in nodes}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in weights)
        os.link(artifact.folder / precision / "model.onnx.data", tmp_path / "model.onnx.data")
        onnx.save(model, str(tmp_path / "model.onnx"))
        session: Any = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        found = session.run(list(weights), feeds)
        return dict(zip(weights.values(), found, strict=True))

    return run


@pytest.mark.parametrize(("head_dim", "near"), [(32, 0), (128, 2)])
def test_rope_tables_are_those_of_transformers(artifact: Artifact, head_dim: int, near: int) -> None:
    """Within one unit in the last place, up to the longest position.

    Powers of theta may be rounded to either neighbour. Where one is, its angles are off by at most half a unit in
    the last place of their own, which for the few and slow frequencies concerned stays below 1e-6.
    """
    numbers = dataclasses.replace(architecture_of(artifact).attention, head_dim=head_dim)
    for found, expected in zip(rope_tables(numbers, POSITIONS), reference_tables(head_dim), strict=True):
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        worst = np.abs(found - expected).max(axis=0)
        assert (worst > ULP).sum() <= near
        assert worst.max() <= (1e-6 if near else ULP)


def test_position_zero_turns_nothing(artifact: Artifact) -> None:
    cos, sin = rope_tables(architecture_of(artifact).attention, 4)
    np.testing.assert_array_equal(cos[0], 1)
    np.testing.assert_array_equal(sin[0], 0)


def test_longer_tables_begin_like_shorter_ones(artifact: Artifact) -> None:
    numbers = architecture_of(artifact).attention
    for long, short in zip(rope_tables(numbers, 3000), rope_tables(numbers, 100), strict=True):
        np.testing.assert_array_equal(long[:100], short)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inputs_and_output_are_as_documented(artifact: Artifact, precision: Precision) -> None:
    graph = load_graph(artifact, precision).graph
    kinds = onnx.TensorProto
    found = {value.name: (value.type.tensor_type.elem_type, input_shape(value)) for value in graph.input}
    numbers = architecture_of(artifact).attention
    expected: dict[str, tuple[int, list[str | int]]] = {
        "input_ids": (kinds.INT64, ["T"]),
        "attention_index": (kinds.INT64, ["R", "S"]),
        "row_lengths": (kinds.INT32, ["R"]),
        "stream_slot": (kinds.INT64, ["T"]),
        "last_row": (kinds.INT64, ["N"]),
        "tiled_attention": (kinds.BOOL, []),
    }
    outputs: dict[str, tuple[int, list[str | int]]] = {"embedding": (kinds.FLOAT, ["N", artifact.manifest.dimension])}
    if precision != "fp16":
        width = numbers.num_key_value_heads * numbers.head_dim
        expected["kept_row"] = (kinds.INT64, ["K"])
        for layer in range(numbers.num_hidden_layers):
            for part in ("key", "value"):
                expected[f"past_key_values.{layer}.{part}"] = (kinds.FLOAT, ["P", width])
                outputs[f"present.{layer}.{part}"] = (kinds.FLOAT, ["K", width])
    assert found == expected
    given = {value.name: (value.type.tensor_type.elem_type, input_shape(value)) for value in graph.output}
    assert list(given.items()) == list(outputs.items()), "the answer is the first"
    defaults = {tensor.name: list(tensor.dims) for tensor in graph.initializer if tensor.name in expected}
    assert set(defaults) == {name for name in expected if name == "kept_row" or name.startswith("past")}
    assert all(dims[0] == 0 for dims in defaults.values())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rows_to_keep_are_gathered_beside_attention(artifact: Artifact, precision: Precision) -> None:
    """A node of their own would run last, and all layers' keys and values would be held till then."""
    graph = load_graph(artifact, precision).graph
    assert not any("kept_row" in node.input for node in graph.node)
    beside = [node for node in graph.node if node.op_type == "If" and len(node.output) == 3]
    assert [name for node in beside for name in node.output[1:]] == [output.name for output in graph.output[1:]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_rerankers_output_is_a_float32_score_for_each_text(
    artifact: Artifact, rerank_artifact: Artifact, precision: Precision
) -> None:
    """Its inputs are those of an embedding model."""
    graph, other = (load_graph(one, precision).graph for one in (rerank_artifact, artifact))
    assert list(graph.input) == list(other.input)
    output, *presents = graph.output
    assert presents == list(other.output)[1:]
    assert output.name == "score"
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert input_shape(output) == ["N"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_rerankers_vocabulary_is_stored_once(rerank_artifact: Artifact, precision: Precision) -> None:
    """Of its head only one vector is left, in float32."""
    tensors = {tensor.name: tensor for tensor in load_graph(rerank_artifact, precision).graph.initializer}
    assert list(tensors["score.weight"].dims) == [rerank_artifact.manifest.dimension]
    assert tensors["score.weight"].data_type == onnx.TensorProto.FLOAT
    tables = [name for name, tensor in tensors.items() if SMALL["vocab_size"] in tensor.dims and len(tensor.dims) == 2]
    assert len(tables) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_format_is_one_that_onnxruntime_declares(artifact: Artifact, precision: Precision) -> None:
    model = load_graph(artifact, precision)
    assert model.ir_version == 10
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20, "com.microsoft": 1}
    assert model.producer_name == "quoit"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rope_tables_reach_the_longest_position(artifact: Artifact, precision: Precision) -> None:
    """In the type that the graph's values have."""
    stored = {tensor.name: tensor for tensor in load_graph(artifact, precision).graph.initializer}
    tables = {name: tensor for name, tensor in stored.items() if name.startswith("rope_")}
    assert all(list(tensor.dims) == [POSITIONS, 16] for tensor in tables.values())
    kind = {"fp16": "float16", "bf16": "bfloat16"}.get(precision, "float")
    assert set(tables) == {f"rope_{table}_{kind}" for table in ("cos", "sin")}
    assert {tensor.data_type for tensor in tables.values()} == {getattr(onnx.TensorProto, kind.upper())}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_last_tokens_are_gathered_before_the_last_output_projection(
    artifact: Artifact, precision: Precision
) -> None:
    nodes = load_graph(artifact, precision).graph.node
    gathers = [index for index, node in enumerate(nodes) if node.op_type == "Gather" and "last_row" in node.input]
    last = architecture_of(artifact).attention.num_hidden_layers - 1
    (projection,) = [
        index
        for index, node in enumerate(nodes)
        if any(name.startswith(f"layers.{last}.self_attn.o_proj.weight") for name in node.input[:2])
    ]
    assert len(gathers) == 2, "the residual, and where the attention's results lie"
    assert max(gathers) < projection


@pytest.mark.parametrize(
    ("precision", "kind", "linears"),
    [("fp32", "MatMul", 7), ("fp16", "MatMul", 5), ("int8", "MatMulIntegerToFloat", 7)],
)
def test_after_the_last_attention_only_last_tokens_are_computed(
    artifact: Artifact, run_nodes: Any, precision: Precision, kind: str, linears: int
) -> None:
    """T rows everywhere, but N rows in the last layer's output projection and MLP."""
    found = run_nodes(precision, kind, one_text(list(range(100, 112)), [3, 11]))
    last = architecture_of(artifact).attention.num_hidden_layers - 1
    assert len(found) == linears * (last + 1)
    for name, values in found.items():
        after = name.startswith((f"layers.{last}.mlp.", f"layers.{last}.self_attn.o_proj."))
        assert len(values) == (2 if after else 12), name


def test_any_row_of_the_stream_can_be_asked_for(artifact: Artifact, reference_model: Any) -> None:
    """Causal attention: the state at a row is that of the text ending there."""
    session: Any = onnxruntime.InferenceSession(
        artifact.folder / "fp32" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    ids = list(range(500, 520))
    (found,) = session.run(["embedding"], one_text(ids, [19, 0, 7, 7]))
    with torch.inference_mode():
        states = reference_model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(found, states[[19, 0, 7, 7]], atol=2e-5)
