"""The blocks that a family's layers are authored from: linear layers, norms, SwiGLU, and the residual stream.

This module does not know how tensors are stored (`precisions`), nor in which order a family puts the blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from quoit_export.graph.architecture import Architecture
from quoit_export.graph.attention import Attention
from quoit_export.graph.targets import RESIDUAL, GraphInputs, Target
from quoit_export.precisions.encoding import MICROSOFT, Author, Encoding, Rows
from quoit_export.precisions.floats import cast


@dataclass(frozen=True)
class Blocks:
    """Authors the blocks of one graph.

    Attributes:
        author: the graph in the making.
        architecture: the model's.
        encoding: how linear layers and the token table are stored.
        inputs: the graph's inputs.
        attending: authors the attention nodes.
        stream_scale: what the tensors multiply the residual stream by; the norms' epsilon follows.
    """

    author: Author
    architecture: Architecture
    encoding: Encoding
    inputs: GraphInputs
    attending: Attention
    stream_scale: float

    @property
    def target(self) -> Target:
        """What the graph is for."""
        return self.attending.target

    def embed(self) -> ir.Value:
        """The rows of the token table: -> [T, hidden]."""
        architecture = self.architecture
        table = architecture.vocab_size, architecture.dimension
        return self.encoding.embed(self.author, self.inputs["input_ids"], architecture.token_table, table)

    def linear(self, x: Rows, tokens: ir.Value, names: Sequence[str]) -> list[Rows]:
        """The linear layers that read one input, by their names in the checkpoint."""
        prepared = self.encoding.prepare(self.author, x, tokens, names)
        shape = self.architecture.linear_shape
        return [self.encoding.linear(self.author, prepared, name, shape(name)) for name in names]

    def settle(self, x: Rows) -> ir.Value:
        """The values with their row scale applied."""
        return x.values if x.scale is None else self.author.op("Mul", x.values, x.scale)

    def swiglu(self, x: ir.Value, tokens: ir.Value, gate: str, up: str, down: str) -> ir.Value:
        """down(silu(gate(x)) * up(x)), by the linear layers' names."""
        gates, values = self.linear(Rows(x), tokens, [gate, up])
        silu = self.author.op("QuickGelu", self.settle(gates), domain=MICROSOFT, alpha=1.0)
        product = Rows(self.author.op("Mul", silu, values.values), values.scale)
        return self.settle(self.linear(product, tokens, [down])[0])

    def stream_norm(self, x: ir.Value, name: str) -> ir.Value:
        """RMSNorm of the residual stream."""
        return self._norm(x, name, self._stream_epsilon)

    def head_norm(self, x: Rows, heads: int, name: str) -> ir.Value:
        """RMSNorm of each head: [T, heads * head_dim] -> the same shape.

        A row's scale cancels in the norm (but for epsilon, which is then relative to the scaled row: 1e-6
        against a mean square near one), so it is dropped.
        """
        author, attention = self.author, self.architecture.attention
        split = author.constant(f"split_{heads}", np.array([-1, heads, attention.head_dim], np.int64))
        merged = author.constant(f"merge_{heads}", np.array([-1, heads * attention.head_dim], np.int64))
        normed = self._norm(author.op("Reshape", x.values, split), name, attention.rms_norm_eps)
        return author.op("Reshape", normed, merged)

    def add_norm(self, residual: ir.Value, x: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
        """(RMSNorm(residual + x), residual + x)."""
        if self.target.emulated:
            # Two nodes, so that the sum is rounded before it is normalised.
            total = self.author.op("Add", x, residual)
            return self.stream_norm(total, name), total
        outputs = self.author.ops(
            "SkipSimplifiedLayerNormalization",
            4,
            x,
            residual,
            self.norm_weight(name),
            domain=MICROSOFT,
            epsilon=self._stream_epsilon,
        )
        return outputs[0], outputs[3]

    def norm_weight(self, name: str) -> ir.Value:
        """A norm's weight."""
        stored, dtype = f"{name}.weight", self.encoding.stored_dtype
        read, shape = self.author.read, self.architecture.tensors[stored]
        weight = self.author.weight(stored, dtype, shape, lambda: cast(read(stored), dtype, stored))
        return self.author.as_type(weight, dtype, self.encoding.dtype)

    def name_residual(self, residual: ir.Value, block: str) -> None:
        """Lets the stream behind a block be found, with its type and width."""
        residual.name, residual.dtype = f"{RESIDUAL}{block}", self.encoding.dtype
        residual.shape = ir.Shape([None, self.architecture.dimension])

    def merge_heads(self, context: ir.Value, slots: ir.Value | None) -> ir.Value:
        """Attention's output [R, S, ...] at the rectangle's `slots`, or at all: -> [len(slots), heads * head_dim]."""
        attention = self.architecture.attention
        width = attention.num_attention_heads * attention.head_dim
        shape = self.author.constant("flat_heads", np.array([-1, width], np.int64))
        flat = self.author.op("Reshape", context, shape)
        return flat if slots is None else self.author.op("Gather", flat, slots)

    def _norm(self, x: ir.Value, name: str, epsilon: float) -> ir.Value:
        """RMSNorm over the last axis."""
        return self.author.op(
            "SimplifiedLayerNormalization", x, self.norm_weight(name), axis=-1, epsilon=epsilon, stash_type=1
        )

    @property
    def _stream_epsilon(self) -> float:
        """What is added to the residual stream's mean square."""
        return self.architecture.attention.rms_norm_eps * self.stream_scale**2
