"""The graph of a Qwen3 decoder over a packed token stream.

On CPUs every layer but attention runs on the flat stream of real tokens [T, hidden], without padding. Attention sees
the rectangle [R, S] that `attention_index` gathers from the stream; a stream row that several sequences share
(a common prefix) is gathered several times and computed once. On CUDA the stream is the rectangle, T = R * S, with any
ids behind a sequence's end.

Inputs
    input_ids        [T] int64     the tokens of the batch; on CPUs, each distinct prefix once
    row_lengths      [R] int32     length of each sequence minus one
    last_row         [N] int64     the stream row of each text's last token
On CPUs
    attention_index  [R, S] int64  the stream row behind each position of each sequence
    stream_slot      [T] int64     where in the flattened [R*S] attention output a stream row's result lies
    tiled_attention  [] bool       attention in tiles with bounded memory, instead of a full score matrix
On CUDA, both in the CPU's memory
    longest_row      [] int32      S
    rectangle        [3] int64     R, S and -1
Inputs for the keys and values of a prefix from an earlier run, empty by default, on CPUs
    past_key_values.{layer}.{key, value}  [P, kv_heads * head_dim] float32  keys normalised, without their positions;
                                          attention_index counts these P tokens before those of the stream
    kept_row                              [K] int64  the stream rows whose keys and values to give
Output, one of
    embedding        [N, hidden] float32  after the final norm, not normalised to unit length
    score            [N] float32          logit(yes) - logit(no)
and, on CPUs
    present.{layer}.{key, value}          [K, kv_heads * head_dim] float32

This module does not know how tensors are stored (`precision`) or written (`publish`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit.artifact import Architecture
from quoit_export.checkpoint.checkpoint import linear_shapes
from quoit_export.graph.attention import PARTS, QKV, Attention, packing
from quoit_export.graph.emulation import emulate
from quoit_export.graph.targets import RESIDUAL, GraphInputs, Target, cpu_target, declare_inputs
from quoit_export.precisions.encoding import MICROSOFT, Author, Encoding, ReadTensor, Rows
from quoit_export.precisions.floats import cast
from quoit_export.precisions.weight_only import weight_only

ReadVector = Callable[[], NDArray[np.float32]]
ReadMatrix = Callable[[], NDArray[np.float32]]

OPSET = 20
IR_VERSION = 10
HEAD_NORMS = ("q_norm", "k_norm")


@dataclass(frozen=True)
class Tensors:
    """Where a graph's tensors come from.

    Attributes:
        read: a tensor by its name in the checkpoint.
        score: for a reranker, the vector [hidden] whose product with a state is the score.
        output: for an embedding model whose states the tensors turn, the matrix [hidden, hidden] that turns them back.
        stream_scale: what the tensors multiply the residual stream by; the norms' epsilon follows.
    """

    read: ReadTensor
    score: ReadVector | None = None
    output: ReadMatrix | None = None
    stream_scale: float = 1.0


def author_graph(
    architecture: Architecture, max_tokens: int, encoding: Encoding, tensors: Tensors, target: Target | None = None
) -> ir.Model:
    """The model of one precision, its tensors still promises that are kept when they are written.

    Args:
        architecture: the decoder's numbers.
        max_tokens: the longest sequence; sizes the RoPE tables.
        encoding: how linear layers and the token table are stored.
        tensors: where they come from.
        target: what the graph is for; by default the CPU.
    """
    target = cpu_target(encoding.dtype) if target is None else target
    encoding = encoding.narrowed() if target.narrow else encoding
    encoding = weight_only(encoding) if target.weight_only else encoding
    inputs = declare_inputs(target, architecture)
    author = Author(packing(tensors.read))
    dtypes = encoding.dtype, encoding.stored_dtype
    attending = Attention(author, architecture, *dtypes, inputs, max_tokens, target)
    decoder = Decoder(author, architecture, encoding, inputs, attending, tensors.stream_scale)
    state = decoder.author.op("Cast", decoder.run(), to=ir.DataType.FLOAT)
    if tensors.score is not None:
        output = decoder.score(state, tensors.score)
    else:
        output = decoder.embedding(state if tensors.output is None else decoder.turn(state, tensors.output))
    tape = decoder.author.tape
    graph = ir.Graph(
        inputs.all,
        [output, *attending.presents],
        nodes=tape.nodes,
        initializers=[*tape.initializers, *(value for value in inputs.all if value.const_value is not None)],
        opset_imports={"": OPSET, MICROSOFT: 1},
        name="quoit",
    )
    if target.emulated:
        emulate(graph, encoding.dtype)
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="quoit")


@dataclass(frozen=True)
class Decoder:
    """Authors the layers of one decoder."""

    author: Author
    numbers: Architecture
    encoding: Encoding
    inputs: GraphInputs
    attending: Attention
    stream_scale: float

    @property
    def target(self) -> Target:
        """What the graph is for."""
        return self.attending.target

    def run(self) -> ir.Value:
        """All layers and the final norm; -> the last tokens' states [N, hidden]."""
        numbers, inputs = self.numbers, self.inputs
        table = (numbers.vocab_size, numbers.hidden_size)
        residual = self.encoding.embed(self.author, inputs["input_ids"], "embed_tokens.weight", table)
        self.name_residual(residual, "embed_tokens")
        normed = self.norm(residual, "layers.0.input_layernorm")
        for layer in range(numbers.num_hidden_layers):
            last = layer == numbers.num_hidden_layers - 1
            name = f"layers.{layer}"
            tokens, slots = inputs["input_ids"], inputs.get("stream_slot")
            if last:
                # After attention only the texts' last tokens matter: all that follows runs on N rows.
                tokens = inputs["last_row"]
                slots = tokens if slots is None else self.author.op("Gather", slots, tokens)
                residual = self.author.op("Gather", residual, inputs["last_row"])
            context = self.attention(normed, slots, layer)
            attended = self.linear(Rows(context), tokens, [f"{name}.self_attn.o_proj"])[0]
            normed, residual = self.add_norm(residual, self.settle(attended), f"{name}.post_attention_layernorm")
            self.name_residual(residual, f"{name}.self_attn")
            following = "norm" if last else f"layers.{layer + 1}.input_layernorm"
            normed, residual = self.add_norm(residual, self.mlp(normed, tokens, f"{name}.mlp"), following)
            self.name_residual(residual, f"{name}.mlp")
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

    def attention(self, x: ir.Value, slots: ir.Value | None, layer: int) -> ir.Value:
        """[T, hidden] -> the heads' outputs at the rectangle's `slots`, or at all, [len(slots), heads * head_dim]."""
        author, name = self.author, f"layers.{layer}.self_attn"
        norms = [self.norm_weight(f"{name}.{norm}") for norm in HEAD_NORMS] if self.target.fused_norms else []
        context = self.attending.attend(layer, self.stream(x, name), norms)
        width = self.numbers.num_attention_heads * self.numbers.head_dim
        flat_shape = author.constant("flat_heads", np.array([-1, width], np.int64))
        flat = author.op("Reshape", context, flat_shape)
        return flat if slots is None else author.op("Gather", flat, slots)

    def stream(self, x: ir.Value, name: str) -> list[ir.Value]:
        """What attention reads of every stream row: q, k and v, their heads normalised unless the target does that."""
        names = [f"{name}.{part}" for part in ((QKV,) if self.target.packed else PARTS)]
        parts = self.linear(Rows(x), self.inputs["input_ids"], names)
        if self.target.fused_norms:
            return [self.settle(part) for part in parts]
        query, key, value = map(Rows, self.attending.split(parts[0].values)) if self.target.packed else parts
        return [
            self.head_norm(query, self.numbers.num_attention_heads, f"{name}.q_norm"),
            self.head_norm(key, self.numbers.num_key_value_heads, f"{name}.k_norm"),
            self.settle(value),
        ]

    def mlp(self, x: ir.Value, tokens: ir.Value, name: str) -> ir.Value:
        """SwiGLU: down(silu(gate(x)) * up(x))."""
        gate, up = self.linear(Rows(x), tokens, [f"{name}.gate_proj", f"{name}.up_proj"])
        silu = self.author.op("QuickGelu", self.settle(gate), domain=MICROSOFT, alpha=1.0)
        product = Rows(self.author.op("Mul", silu, up.values), up.scale)
        return self.settle(self.linear(product, tokens, [f"{name}.down_proj"])[0])

    def linear(self, x: Rows, tokens: ir.Value, names: list[str]) -> list[Rows]:
        """The linear layers that read one input, by their names in the checkpoint."""
        shapes = linear_shapes(self.numbers)
        rows = sum(shapes[f"self_attn.{part}"][0] for part in PARTS)
        shapes[f"self_attn.{QKV}"] = (rows, self.numbers.hidden_size)
        prepared = self.encoding.prepare(self.author, x, tokens, names)
        return [self.encoding.linear(self.author, prepared, name, shapes[name.split(".", 2)[2]]) for name in names]

    def settle(self, x: Rows) -> ir.Value:
        """The values with their row scale applied."""
        return x.values if x.scale is None else self.author.op("Mul", x.values, x.scale)

    def norm(self, x: ir.Value, name: str) -> ir.Value:
        """RMSNorm over the last axis."""
        eps = self.numbers.rms_norm_eps if "self_attn" in name else self.stream_epsilon
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
        if self.target.emulated:
            # Two nodes, so that the sum is rounded before it is normalised.
            total = self.author.op("Add", x, residual)
            return self.norm(total, name), total
        outputs = self.author.ops(
            "SkipSimplifiedLayerNormalization",
            4,
            x,
            residual,
            self.norm_weight(name),
            domain=MICROSOFT,
            epsilon=self.stream_epsilon,
        )
        return outputs[0], outputs[3]

    @property
    def stream_epsilon(self) -> float:
        """What is added to the residual stream's mean square."""
        return self.numbers.rms_norm_eps * self.stream_scale**2

    def name_residual(self, residual: ir.Value, block: str) -> None:
        """Lets the stream behind a block be found, with its type and width."""
        residual.name, residual.dtype = f"{RESIDUAL}{block}", self.encoding.dtype
        residual.shape = ir.Shape([None, self.numbers.hidden_size])

    def norm_weight(self, name: str) -> ir.Value:
        """A norm's weight."""
        width = self.numbers.head_dim if "self_attn" in name else self.numbers.hidden_size
        dtype = self.encoding.stored_dtype
        read, stored = self.author.read, f"{name}.weight"
        weight = self.author.weight(stored, dtype, (width,), lambda: cast(read(stored), dtype, stored))
        return self.author.as_type(weight, dtype, self.encoding.dtype)


def name_output(value: ir.Value, name: str, shape: list[int | str]) -> ir.Value:
    """A float32 value as an output of the graph."""
    value.name, value.shape, value.dtype = name, ir.Shape(shape), ir.DataType.FLOAT
    return value
