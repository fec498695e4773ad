"""The graph of a Qwen3 decoder over a packed token stream.

Every layer but attention runs on the flat stream of real tokens [T, hidden], without padding. Attention sees
the rectangle [R, S] that `attention_index` gathers from the stream; a stream row that several sequences share
(a common prefix) is gathered several times and computed once.

Inputs
    input_ids        [T] int64     the tokens of the batch, each distinct prefix once
    attention_index  [R, S] int64  the stream row behind each position of each sequence
    row_lengths      [R] int32     length of each sequence minus one
    stream_slot      [T] int64     where in the flattened [R*S] attention output a stream row's result lies
    last_row         [N] int64     the stream row of each text's last token
    tiled_attention  [] bool       attention in tiles with bounded memory, instead of a full score matrix
Output, one of
    embedding        [N, hidden] float32  after the final norm, not normalised to unit length
    score            [N] float32          logit(yes) - logit(no)

This module does not know how tensors are stored (`precision`) or written (`publish`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit.artifact import Architecture
from quoit_export.checkpoint import linear_shapes
from quoit_export.precision import MICROSOFT, Author, Encoding, ReadTensor, Rows, cast

ReadVector = Callable[[], NDArray[np.float32]]
ReadMatrix = Callable[[], NDArray[np.float32]]

OPSET = 20
IR_VERSION = 10


@dataclass(frozen=True)
class Inputs:
    """The graph's inputs; shapes and meanings above."""

    input_ids: ir.Value
    attention_index: ir.Value
    row_lengths: ir.Value
    stream_slot: ir.Value
    last_row: ir.Value
    tiled_attention: ir.Value


def make_inputs() -> Inputs:
    """The graph's inputs as values."""
    return Inputs(
        input_ids=ir.val("input_ids", ir.DataType.INT64, ["T"]),
        attention_index=ir.val("attention_index", ir.DataType.INT64, ["R", "S"]),
        row_lengths=ir.val("row_lengths", ir.DataType.INT32, ["R"]),
        stream_slot=ir.val("stream_slot", ir.DataType.INT64, ["T"]),
        last_row=ir.val("last_row", ir.DataType.INT64, ["N"]),
        tiled_attention=ir.val("tiled_attention", ir.DataType.BOOL, []),
    )


@dataclass(frozen=True)
class Tensors:
    """Where a graph's tensors come from.

    Attributes:
        read: a tensor by its name in the checkpoint.
        score: for a reranker, the vector [hidden] whose product with a state is the score.
        output: for an embedding model whose states the tensors turn, the matrix [hidden, hidden] that turns them back.
    """

    read: ReadTensor
    score: ReadVector | None = None
    output: ReadMatrix | None = None


def author_graph(architecture: Architecture, max_tokens: int, encoding: Encoding, tensors: Tensors) -> ir.Model:
    """The model of one precision, its tensors still promises that are kept when they are written.

    Args:
        architecture: the decoder's numbers.
        max_tokens: the longest sequence; sizes the RoPE tables.
        encoding: how linear layers and the token table are stored.
        tensors: where they come from.
    """
    inputs = make_inputs()
    decoder = Decoder(Author(tensors.read), architecture, encoding, inputs, max_tokens)
    state = decoder.author.op("Cast", decoder.run(), to=ir.DataType.FLOAT)
    if tensors.score is not None:
        output = decoder.score(state, tensors.score)
    else:
        output = decoder.embedding(state if tensors.output is None else decoder.turn(state, tensors.output))
    tape = decoder.author.tape
    graph = ir.Graph(
        list(vars(inputs).values()),
        [output],
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports={"": OPSET, MICROSOFT: 1},
        name="quoit",
    )
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="quoit")


@dataclass(frozen=True)
class Decoder:
    """Authors the layers of one decoder."""

    author: Author
    numbers: Architecture
    encoding: Encoding
    inputs: Inputs
    max_tokens: int

    def run(self) -> ir.Value:
        """All layers and the final norm; -> the last tokens' states [N, hidden]."""
        numbers, inputs = self.numbers, self.inputs
        table = (numbers.vocab_size, numbers.hidden_size)
        residual = self.encoding.embed(self.author, inputs.input_ids, table)
        normed = self.norm(residual, "layers.0.input_layernorm")
        for layer in range(numbers.num_hidden_layers):
            last = layer == numbers.num_hidden_layers - 1
            name = f"layers.{layer}"
            tokens, slots = inputs.input_ids, inputs.stream_slot
            if last:
                # After attention only the texts' last tokens matter: all that follows runs on N rows.
                tokens, slots = inputs.last_row, self.author.op("Gather", slots, inputs.last_row)
                residual = self.author.op("Gather", residual, inputs.last_row)
            context = self.attention(normed, slots, f"{name}.self_attn")
            attended = self.linear(Rows(context), tokens, [f"{name}.self_attn.o_proj"])[0]
            normed, residual = self.add_norm(residual, self.settle(attended), f"{name}.post_attention_layernorm")
            following = "norm" if last else f"layers.{layer + 1}.input_layernorm"
            normed, residual = self.add_norm(residual, self.mlp(normed, tokens, f"{name}.mlp"), following)
        return normed

    def embedding(self, state: ir.Value) -> ir.Value:
        """The output of an embedding model: the states themselves, [N, hidden]."""
        return name_output(state, "embedding", ["N", self.numbers.hidden_size])

    def turn(self, state: ir.Value, read: ReadMatrix) -> ir.Value:
        """The states of the last tokens times one matrix."""
        hidden = self.numbers.hidden_size
        matrix = self.author.weight("output.weight", ir.DataType.FLOAT, (hidden, hidden), read)
        return self.author.op("MatMul", state, matrix)

    def score(self, state: ir.Value, read: ReadVector) -> ir.Value:
        """The output of a reranker: the states' products with one vector, [N], in float32.

        A sum along each row, since a matrix product of other kernels for other N could round otherwise.
        """
        author = self.author
        weight = author.weight("score.weight", ir.DataType.FLOAT, (self.numbers.hidden_size,), read)
        axis = author.constant("last_axis", np.array([-1], np.int64))
        return name_output(author.op("ReduceSum", author.op("Mul", state, weight), axis, keepdims=0), "score", ["N"])

    def attention(self, x: ir.Value, slots: ir.Value, name: str) -> ir.Value:
        """[T, hidden] -> the heads' outputs for the stream rows in `slots`, [len(slots), heads * head_dim]."""
        author, heads, kv_heads = self.author, self.numbers.num_attention_heads, self.numbers.num_key_value_heads
        projections = [f"{name}.q_proj", f"{name}.k_proj", f"{name}.v_proj"]
        query, key, value = self.linear(Rows(x), self.inputs.input_ids, projections)
        stream = (
            self.head_norm(query, heads, f"{name}.q_norm"),
            self.head_norm(key, kv_heads, f"{name}.k_norm"),
            self.settle(value),
        )
        context = self.choose_attention([author.op("Gather", flat, self.inputs.attention_index) for flat in stream])
        flat_shape = author.constant("flat_heads", np.array([-1, heads * self.numbers.head_dim], np.int64))
        return author.op("Gather", author.op("Reshape", context, flat_shape), slots)

    def choose_attention(self, rectangle: list[ir.Value]) -> ir.Value:
        """Causal attention over [R, S, heads * head_dim], as `tiled_attention` asks.

        onnxruntime's CPU kernel works in tiles, with memory in proportion to S, where the node names its present
        outputs and computes in float32, and else on the full score matrix, faster on short rows. A float16 graph
        therefore computes its tiles in float32; its other branch is CUDA's too, and names them for that.
        """
        own, single = self.encoding.dtype, ir.DataType.FLOAT
        branches: dict[str, Any] = {}
        for branch, dtype, outputs in (("then_branch", single, 3), ("else_branch", own, 1 if own == single else 3)):
            inner = self.author.branch()
            inputs = rectangle if dtype == own else [inner.op("Cast", x, to=dtype) for x in rectangle]
            context = self.grouped_query_attention(inner, inputs, self.rope(dtype), outputs)
            result = context if dtype == own else inner.op("Cast", context, to=own)
            branches[branch] = ir.Graph([], [result], nodes=inner.tape.nodes, name=branch)
        return self.author.op("If", self.inputs.tiled_attention, **branches)

    def grouped_query_attention(
        self, author: Author, rectangle: list[ir.Value], rope: tuple[ir.Value, ir.Value], outputs: int
    ) -> ir.Value:
        """One GroupQueryAttention node with its RoPE tables and lengths."""
        return author.ops(
            "GroupQueryAttention",
            outputs,
            *rectangle,
            None,
            None,
            self.inputs.row_lengths,
            self.longest_row,
            *rope,
            domain=MICROSOFT,
            num_heads=self.numbers.num_attention_heads,
            kv_num_heads=self.numbers.num_key_value_heads,
            do_rotary=1,
        )[0]

    @cached_property
    def longest_row(self) -> ir.Value:
        """S as a scalar int32."""
        author = self.author
        shape = author.op("Shape", self.inputs.attention_index, start=1)
        return author.op("Cast", author.op("Squeeze", shape), to=ir.DataType.INT32)

    def rope(self, dtype: ir.DataType) -> tuple[ir.Value, ir.Value]:
        """Cos and sin [max_tokens, head_dim / 2]."""
        cos, sin = (table.astype(dtype.numpy()) for table in rope_tables(self.numbers, self.max_tokens))
        name = dtype.name.lower()
        return self.author.constant(f"rope_cos_{name}", cos), self.author.constant(f"rope_sin_{name}", sin)

    def mlp(self, x: ir.Value, tokens: ir.Value, name: str) -> ir.Value:
        """SwiGLU: down(silu(gate(x)) * up(x))."""
        gate, up = self.linear(Rows(x), tokens, [f"{name}.gate_proj", f"{name}.up_proj"])
        silu = self.author.op("QuickGelu", self.settle(gate), domain=MICROSOFT, alpha=1.0)
        product = Rows(self.author.op("Mul", silu, up.values), up.scale)
        return self.settle(self.linear(product, tokens, [f"{name}.down_proj"])[0])

    def linear(self, x: Rows, tokens: ir.Value, names: list[str]) -> list[Rows]:
        """The linear layers that read one input, by their names in the checkpoint."""
        shapes = linear_shapes(self.numbers)
        prepared = self.encoding.prepare(self.author, x, tokens, names)
        return [self.encoding.linear(self.author, prepared, name, shapes[name.split(".", 2)[2]]) for name in names]

    def settle(self, x: Rows) -> ir.Value:
        """The values with their row scale applied."""
        return x.values if x.scale is None else self.author.op("Mul", x.values, x.scale)

    def norm(self, x: ir.Value, name: str) -> ir.Value:
        """RMSNorm over the last axis."""
        eps = self.numbers.rms_norm_eps
        return self.author.op(
            "SimplifiedLayerNormalization", x, self.norm_weight(name), axis=-1, epsilon=eps, stash_type=1
        )

    def head_norm(self, x: Rows, heads: int, name: str) -> ir.Value:
        """RMSNorm of each head: [T, heads * head_dim] -> the same shape.

        A row's scale cancels in the norm (but for epsilon, which is then relative to the scaled row: 1e-6
        against a mean square near one), so it is dropped.
        """
        author, width = self.author, self.numbers.head_dim
        split = author.constant(f"split_{heads}", np.array([-1, heads, width], np.int64))
        merged = author.constant(f"merge_{heads}", np.array([-1, heads * width], np.int64))
        return author.op("Reshape", self.norm(author.op("Reshape", x.values, split), name), merged)

    def add_norm(self, residual: ir.Value, x: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
        """(RMSNorm(residual + x), residual + x)."""
        outputs = self.author.ops(
            "SkipSimplifiedLayerNormalization",
            4,
            x,
            residual,
            self.norm_weight(name),
            domain=MICROSOFT,
            epsilon=self.numbers.rms_norm_eps,
        )
        return outputs[0], outputs[3]

    def norm_weight(self, name: str) -> ir.Value:
        """A norm's weight."""
        width = self.numbers.head_dim if "self_attn" in name else self.numbers.hidden_size
        dtype = self.encoding.dtype
        read, stored = self.author.read, f"{name}.weight"
        return self.author.weight(stored, dtype, (width,), lambda: cast(read(stored), dtype, stored))


def name_output(value: ir.Value, name: str, shape: list[int | str]) -> ir.Value:
    """A float32 value as an output of the graph."""
    value.name, value.shape, value.dtype = name, ir.Shape(shape), ir.DataType.FLOAT
    return value


@cache
def rope_tables(numbers: Architecture, max_tokens: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cos and sin of position x frequency, [max_tokens, head_dim / 2] float32.

    Frequencies theta^(-2i/head_dim) and angles are rounded to float32 as transformers' `Qwen3RotaryEmbedding`
    does: at position 2000 the rounding of the angle is visible, and the reference's is the one to match.
    """
    exponents = np.arange(0, numbers.head_dim, 2, dtype=np.float32) / np.float32(numbers.head_dim)
    frequencies = (1.0 / (numbers.rope_theta ** exponents.astype(np.float64)).astype(np.float32)).astype(np.float32)
    angles = np.arange(max_tokens, dtype=np.float32)[:, None] * frequencies[None, :]
    return np.cos(angles), np.sin(angles)
