"""Causal attention with RoPE over the rectangle of gathered rows: the nodes of each target.

This module does not know what is attended to, nor how its linear layers are stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit.artifact import Architecture
from quoit_export.precision import MICROSOFT, Author, ReadTensor
from quoit_export.targets import Inputs, Target

QKV = "qkv_proj"
"""What the packed product is called, beside `q_proj` and the others of a checkpoint."""
PARTS = ("q_proj", "k_proj", "v_proj")
SINGLE = ir.DataType.FLOAT


@dataclass(frozen=True)
class Attention:
    """Authors the attention nodes of a decoder's layers.

    Attributes:
        author: of the graph.
        numbers: the decoder's.
        dtype: of q, k and v.
        inputs: the graph's.
        max_tokens: the longest sequence; sizes the RoPE tables.
        target: what the graph is for.
    """

    author: Author
    numbers: Architecture
    dtype: ir.DataType
    inputs: Inputs
    max_tokens: int
    target: Target

    def split(self, packed: ir.Value) -> list[ir.Value]:
        """[..., q, k and v side by side] -> q, k, v."""
        numbers = self.numbers
        sizes = [numbers.num_attention_heads, numbers.num_key_value_heads, numbers.num_key_value_heads]
        lengths = self.author.constant("qkv_sizes", np.array(sizes, np.int64) * numbers.head_dim)
        return self.author.ops("Split", len(sizes), packed, lengths, axis=-1)

    def attend(self, stream: list[ir.Value], norms: list[ir.Value]) -> ir.Value:
        """The heads' outputs over the rectangle, [R, S, heads * head_dim].

        Args:
            stream: q, k and v of every stream row, [T, ...], or all of them side by side.
            norms: the weights of q's and k's norms, where the node normalises.
        """
        return self.over([self.author.op("Gather", rows, self.inputs.attention_index) for rows in stream], norms)

    def over(self, rectangle: Sequence[ir.Value], norms: Sequence[ir.Value] = ()) -> ir.Value:
        """The same, of q, k and v over the rectangle, [R, S, ...], or all of them side by side."""
        if self.inputs.tiled_attention is not None:
            return self._choose(rectangle, self.inputs.tiled_attention)
        beside = [None] * (len(PARTS) - len(rectangle))
        return self._node(self.author, [*rectangle, *beside], self.dtype, 3, norms)

    def _choose(self, rectangle: Sequence[ir.Value], tiled: ir.Value) -> ir.Value:
        """Attention as `tiled` asks, in float32.

        onnxruntime's CPU kernel works in tiles, with memory in proportion to S, where the node names its present
        outputs, and else on the full score matrix, faster on short rows.
        """
        wide = list(rectangle) if self.dtype == SINGLE else [self.author.op("Cast", x, to=SINGLE) for x in rectangle]
        branches: dict[str, Any] = {}
        for branch, outputs in (("then_branch", 3), ("else_branch", 1)):
            inner = self.author.branch()
            context = self._node(inner, wide, SINGLE, outputs)
            branches[branch] = ir.Graph([], [context], nodes=inner.tape.nodes, name=branch)
        context = self.author.op("If", tiled, **branches)
        return context if self.dtype == SINGLE else self.author.op("Cast", context, to=self.dtype)

    def _node(
        self,
        author: Author,
        rectangle: Sequence[ir.Value | None],
        dtype: ir.DataType,
        outputs: int,
        norms: Sequence[ir.Value] = (),
    ) -> ir.Value:
        """One GroupQueryAttention node with its RoPE tables and lengths.

        CUDA's kernels write the present keys and values, so it names them; an attention bias would keep them from
        flash attention.
        """
        normed: dict[str, Any] = {}
        rest: list[ir.Value | None] = []
        if norms:
            # Behind the RoPE tables: positions, bias, sink, and the scales of a quantized cache.
            rest = [*[None] * 5, *norms]
            normed = {"qk_norm_epsilon": self.numbers.rms_norm_eps}
        return author.ops(
            "GroupQueryAttention",
            outputs,
            *rectangle,
            None,
            None,
            self.inputs.row_lengths,
            self.longest_row,
            *self.rope(dtype),
            *rest,
            domain=MICROSOFT,
            num_heads=self.numbers.num_attention_heads,
            kv_num_heads=self.numbers.num_key_value_heads,
            do_rotary=1,
            **normed,
        )[0]

    @cached_property
    def longest_row(self) -> ir.Value:
        """S as a scalar int32; CUDA's kernel wants it in the CPU's memory, where an input stays."""
        if self.inputs.longest_row is not None:
            return self.inputs.longest_row
        shape = self.author.op("Shape", self.inputs.attention_index, start=1)
        return self.author.op("Cast", self.author.op("Squeeze", shape), to=ir.DataType.INT32)

    def rope(self, dtype: ir.DataType) -> tuple[ir.Value, ir.Value]:
        """Cos and sin [max_tokens, head_dim / 2], rounded as the graph's values are."""
        cos, sin = self._tables
        if dtype == self.dtype:
            return cos, sin
        return self._wide_tables

    @cached_property
    def _tables(self) -> tuple[ir.Value, ir.Value]:
        name = self.dtype.name.lower()
        cos, sin = (table.astype(self.dtype.numpy()) for table in rope_tables(self.numbers, self.max_tokens))
        return self.author.constant(f"rope_cos_{name}", cos), self.author.constant(f"rope_sin_{name}", sin)

    @cached_property
    def _wide_tables(self) -> tuple[ir.Value, ir.Value]:
        cos, sin = (self.author.op("Cast", table, to=SINGLE) for table in self._tables)
        return cos, sin


def packing(read: ReadTensor) -> ReadTensor:
    """Tensors by name, among them `self_attn.qkv_proj.weight`: q's, k's and v's rows, one below the other."""

    def packed(name: str) -> NDArray[Any]:
        if f".{QKV}." not in name:
            return read(name)
        return np.concatenate([read(name.replace(QKV, part)) for part in PARTS])

    return packed


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
