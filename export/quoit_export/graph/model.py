"""Author the graph of a decoder over a stream of tokens: inputs, the family's layers, and the output of the task.

On CPUs every layer but attention runs on the flat stream of real tokens [T, hidden], without padding. Attention reads
the rectangle [R, S] that `attention_index` gathers from the stream. A stream row that several sequences share (a common
prefix) is gathered several times and computed once. On CUDA the stream is the rectangle, T = R * S; the ids behind a
sequence's end do not matter.

Inputs
    input_ids        [T] int64     the tokens of the batch; on CPUs, each distinct prefix once
    row_lengths      [R] int32     length of each sequence minus one
    last_row         [N] int64     the stream row of each text's last token
On CPUs
    attention_index  [R, S] int64  the stream row behind each position of each sequence
    stream_slot      [T] int64     index of a stream row's result in the flattened [R*S] attention output
    tiled_attention  [] bool       attention in tiles with bounded memory, instead of a full score matrix
On CUDA, both in the CPU's memory
    longest_row      [] int32      S
    rectangle        [3] int64     R, S and -1
Inputs for the keys and values of a prefix from an earlier run, empty by default, on CPUs
    past_key_values.{layer}.{key, value}  [P, kv_heads * head_dim] float32  keys normalised, without their positions;
                                          attention_index counts these P tokens before those of the stream
    kept_row                              [K] int64  the stream rows whose keys and values to output
Output, one of
    embedding        [N, hidden] float32  after the final norm, not normalised to unit length
    score            [N] float32          logit(yes) - logit(no)
and, on CPUs
    present.{layer}.{key, value}          [K, kv_heads * head_dim] float32

This module does not know how tensors are stored (`precisions`) or written (`build`), nor which blocks a layer has
(`families`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit_export.graph.architecture import Architecture
from quoit_export.graph.attention import Attention, packing
from quoit_export.graph.blocks import Blocks
from quoit_export.graph.emulation import emulate
from quoit_export.graph.native import join
from quoit_export.graph.targets import Target, cpu_target, declare_inputs
from quoit_export.precisions.encoding import MICROSOFT, NATIVE, Author, Encoding, ReadTensor
from quoit_export.precisions.native import native
from quoit_export.precisions.weight_only import weight_only

ReadVector = Callable[[], NDArray[np.float32]]
ReadMatrix = Callable[[], NDArray[np.float32]]

OPSET = 20
IR_VERSION = 10


@dataclass(frozen=True)
class Tensors:
    """Sources of a graph's tensors.

    Attributes:
        read: function that returns a tensor by its name in the checkpoint.
        score: for a reranker, function that returns the vector [hidden] whose product with a state is the score.
        output: function that returns the inverse of the residual rotation, [hidden, hidden], applied to an embedding
            model's states; None without a rotation.
        stream_scale: factor by which the tensors multiply the residual stream; the norms' epsilon is adjusted to it.
    """

    read: ReadTensor
    score: ReadVector | None = None
    output: ReadMatrix | None = None
    stream_scale: float = 1.0


def author_graph(
    architecture: Architecture, max_tokens: int, encoding: Encoding, tensors: Tensors, target: Target | None = None
) -> ir.Model:
    """Return the model of one precision; its tensors are computed only when they are written.

    Args:
        architecture: the architecture of the model.
        max_tokens: the length of the longest sequence, which sizes the RoPE tables.
        encoding: the encoding of linear layers and the token table.
        tensors: the sources of the tensors.
        target: the target of the graph; by default the CPU.
    """
    target = cpu_target(encoding.dtype) if target is None else target
    encoding = encoding.narrowed() if target.narrow else encoding
    encoding = weight_only(encoding) if target.weight_only else encoding
    encoding = native(encoding) if target.native_products else encoding
    attention = architecture.attention
    inputs = declare_inputs(target, attention)
    author = Author(packing(tensors.read, architecture.packed))
    attending = Attention(author, attention, encoding.dtype, encoding.stored_dtype, inputs, max_tokens, target)
    blocks = Blocks(author, architecture, encoding, inputs, attending, tensors.stream_scale)
    state = author.op("Cast", architecture.author(blocks), to=ir.DataType.FLOAT)
    if tensors.score is not None:
        output = score(author, state, architecture.dimension, tensors.score)
    else:
        turned = state if tensors.output is None else turn(author, state, architecture.dimension, tensors.output)
        output = name_output(turned, "embedding", ["N", architecture.dimension])
    graph = ir.Graph(
        inputs.all,
        [output, *attending.presents],
        nodes=author.tape.nodes,
        initializers=[*author.tape.initializers, *(value for value in inputs.all if value.const_value is not None)],
        opset_imports={"": OPSET, MICROSOFT: 1} | ({NATIVE: 1} if target.native else {}),
        name="quoit",
    )
    if target.emulated:
        emulate(graph, encoding.dtype)
    if target.native_products:
        join(graph)
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="quoit")


def turn(author: Author, state: ir.Value, hidden: int, read: ReadMatrix) -> ir.Value:
    """Return the states of the last tokens times one matrix, [N, hidden]."""
    return author.op("MatMul", state, author.weight("output.weight", ir.DataType.FLOAT, (hidden, hidden), read))


def score(author: Author, state: ir.Value, hidden: int, read: ReadVector) -> ir.Value:
    """Return the output of a reranker: the states' products with one vector, [N], in float32.

    It is a sum along each row. A matrix product may use different kernels for different N, which could round
    differently.
    """
    weight = author.weight("score.weight", ir.DataType.FLOAT, (hidden,), read)
    axis = author.constant("last_axis", np.array([-1], np.int64))
    return name_output(author.op("ReduceSum", author.op("Mul", state, weight), axis, keepdims=0), "score", ["N"])


def name_output(value: ir.Value, name: str, shape: list[int | str]) -> ir.Value:
    """Give a float32 value the name and shape of a graph output, and return it."""
    value.name, value.shape, value.dtype = name, ir.Shape(shape), ir.DataType.FLOAT
    return value
