"""Author the blocks of a family's layers: linear layers, norms, SwiGLU, and the residual stream.

This module does not know how tensors are stored (`precisions`), nor in which order a family uses the blocks.
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
        author: the author of the graph.
        architecture: the architecture of the model.
        encoding: the encoding of linear layers and the token table.
        inputs: the inputs of the graph.
        attending: the author of the attention nodes.
        stream_scale: factor by which the tensors multiply the residual stream; the norms' epsilon is adjusted to it.
    """

    author: Author
    architecture: Architecture
    encoding: Encoding
    inputs: GraphInputs
    attending: Attention
    stream_scale: float

    @property
    def target(self) -> Target:
        """Target of the graph."""
        return self.attending.target

    def embed(self) -> ir.Value:
        """Return the token table's rows for the input ids, [T, hidden]."""
        architecture = self.architecture
        table = architecture.vocab_size, architecture.dimension
        return self.encoding.embed(self.author, self.inputs["input_ids"], architecture.token_table, table)

    def linear(self, x: Rows, tokens: ir.Value, names: Sequence[str]) -> list[Rows]:
        """Author the linear layers that read one input, and return their results in the order of `names`."""
        prepared = self.encoding.prepare(self.author, x, tokens, names)
        return self.encoding.linears(self.author, prepared, self._shapes(names))

    def _shapes(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the shapes [out, in] of linear layers by their names."""
        return {name: self.architecture.linear_shape(name) for name in names}

    def settle(self, x: Rows) -> ir.Value:
        """Return the values with their row scale applied."""
        return x.values if x.scale is None else self.author.op("Mul", x.values, x.scale)

    def swiglu(self, x: ir.Value, tokens: ir.Value, gate: str, up: str, down: str) -> ir.Value:
        """Return down(silu(gate(x)) * up(x)); gate, up and down are names of linear layers."""
        author, shapes = self.author, self._shapes([gate, up])
        prepared = self.encoding.prepare(author, Rows(x), tokens, [gate, up])
        product = self.encoding.gated(author, prepared, gate, up, shapes[gate])
        if product is None:
            gates, values = self.encoding.linears(author, prepared, shapes)
            silu = author.op("QuickGelu", self.settle(gates), domain=MICROSOFT, alpha=1.0)
            product = Rows(author.op("Mul", silu, values.values), values.scale)
        return self.settle(self.linear(product, tokens, [down])[0])

    def stream_norm(self, x: ir.Value, name: str) -> ir.Value:
        """Return the RMSNorm of the residual stream."""
        return self._norm(x, name, self._stream_epsilon)

    def head_norm(self, x: Rows, heads: int, name: str) -> ir.Value:
        """Return the RMSNorm of each head, [T, heads * head_dim], in the same shape.

        A row's scale cancels in the norm, so it is dropped. Only epsilon differs: it is then relative to the scaled
        row, 1e-6 against a mean square near one.
        """
        author, attention = self.author, self.architecture.attention
        split = author.constant(f"split_{heads}", np.array([-1, heads, attention.head_dim], np.int64))
        merged = author.constant(f"merge_{heads}", np.array([-1, heads * attention.head_dim], np.int64))
        normed = self._norm(author.op("Reshape", x.values, split), name, attention.rms_norm_eps)
        return author.op("Reshape", normed, merged)

    def add_norm(self, residual: ir.Value, x: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
        """Return (RMSNorm(residual + x), residual + x)."""
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
        """Return a norm's weight in the type of the graph's values."""
        stored, dtype = f"{name}.weight", self.encoding.stored_dtype
        read, shape = self.author.read, self.architecture.tensors[stored]
        weight = self.author.weight(stored, dtype, shape, lambda: cast(read(stored), dtype, stored))
        return self.author.as_type(weight, dtype, self.encoding.dtype)

    def name_residual(self, residual: ir.Value, block: str) -> None:
        """Name the residual stream behind a block so that it can be found, and set its type and width."""
        residual.name, residual.dtype = f"{RESIDUAL}{block}", self.encoding.dtype
        residual.shape = ir.Shape([None, self.architecture.dimension])

    def _norm(self, x: ir.Value, name: str, epsilon: float) -> ir.Value:
        """Return the RMSNorm over the last axis."""
        return self.author.op(
            "SimplifiedLayerNormalization", x, self.norm_weight(name), axis=-1, epsilon=epsilon, stash_type=1
        )

    @property
    def _stream_epsilon(self) -> float:
        """Epsilon that is added to the mean square of the scaled residual stream."""
        return self.architecture.attention.rms_norm_eps * self.stream_scale**2
