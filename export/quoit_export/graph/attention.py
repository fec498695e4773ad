"""Causal attention with RoPE over the rectangle of gathered rows: the nodes of each target.

This module does not know what is attended to, nor how its linear layers are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit_export.graph.architecture import AttentionConfig
from quoit_export.graph.targets import GraphInputs, PrefixInputs, Target
from quoit_export.precisions.encoding import MICROSOFT, Author, ReadTensor

SINGLE = ir.DataType.FLOAT
STREAMS = ("query", "key", "value")
"""What the node reads, side by side in its first input, or in an input each."""


@dataclass(frozen=True)
class Attention:
    """Authors the attention nodes of a decoder's layers.

    Attributes:
        author: of the graph.
        config: the numbers of attention.
        dtype: of q, k and v.
        stored_dtype: of the RoPE tables as they are stored.
        inputs: the graph's.
        max_tokens: the longest sequence; sizes the RoPE tables.
        target: what the graph is for.
        presents: outputs of the graph, the keys and values to keep of each layer attended so far.
    """

    author: Author
    config: AttentionConfig
    dtype: ir.DataType
    stored_dtype: ir.DataType
    inputs: GraphInputs
    max_tokens: int
    target: Target
    presents: list[ir.Value] = field(default_factory=list)

    def split(self, packed: ir.Value) -> list[ir.Value]:
        """[..., q, k and v side by side] -> q, k, v."""
        config = self.config
        sizes = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
        lengths = self.author.constant("qkv_sizes", np.array(sizes, np.int64) * config.head_dim)
        return self.author.ops("Split", len(sizes), packed, lengths, axis=-1)

    def attend(self, layer: int, stream: list[ir.Value], norms: list[ir.Value]) -> ir.Value:
        """The heads' outputs over the rectangle, [R, S, heads * head_dim].

        Args:
            layer: its number.
            stream: q, k and v of every stream row, [T, ...], or all of them side by side.
            norms: the weights of q's and k's norms, where the node normalises.
        """
        if self._prefix is not None:
            return self._behind(self._prefix, layer, *stream)
        return self.over([self.rectangle(rows) for rows in stream], norms)

    def rectangle(self, rows: ir.Value) -> ir.Value:
        """Stream rows as attention sees them: [T, ...] -> [R, S, ...]."""
        rectangle = self.inputs.get("rectangle")
        if rectangle is not None:
            return self.author.op("Reshape", rows, rectangle)
        return self.author.op("Gather", rows, self.inputs["attention_index"])

    def _behind(self, prefix: "_Prefix", layer: int, query: ir.Value, *pair: ir.Value) -> ir.Value:
        """The same, where the keys and values may begin with a kept prefix's; rows behind one are short.

        Nothing reads attention's output at the prefix's positions, so any query will do there. Without a prefix nothing
        is put before the stream's rows, which would copy them. The rows to keep are gathered in the branches too, since
        outside onnxruntime gathers them last, as nothing else needs them, and holds all layers' keys and values till
        then.
        """
        queries = self.author.op("Gather", query, prefix.query_index)
        given, plain = self.author.branch(), self.author.branch()
        joined = [given.op("Concat", *both, axis=0) for both in zip(prefix.inputs.past[layer], pair, strict=True)]
        index = self.inputs["attention_index"]
        contexts = (
            self._node(given, [queries, *(given.op("Gather", rows, index) for rows in joined)], SINGLE, 1),
            self.over([queries, *(plain.op("Gather", rows, index) for rows in pair)], author=plain),
        )
        branches: dict[str, Any] = {
            name: branch(name, inner, context, *(inner.op("Gather", rows, prefix.inputs.kept_row) for rows in pair))
            for name, inner, context in zip(("then_branch", "else_branch"), (given, plain), contexts, strict=True)
        }
        context, *presents = self.author.ops("If", 1 + len(pair), prefix.is_given, **branches)
        for name, present in zip(("key", "value"), presents, strict=True):
            present.name, present.dtype = f"present.{layer}.{name}", SINGLE
            present.shape = ir.Shape(["K", self.config.num_key_value_heads * self.config.head_dim])
            self.presents.append(present)
        return context

    @cached_property
    def _prefix(self) -> "_Prefix | None":
        author, inputs = self.author, self.inputs.prefix
        if inputs is None:
            return None
        zero = author.constant("zero", np.array(0, np.int64))
        tokens = author.op("Squeeze", author.op("Shape", inputs.past[0][0], end=1))
        behind = author.op("Max", author.op("Sub", self.inputs["attention_index"], tokens), zero)
        return _Prefix(inputs, author.op("Greater", tokens, zero), behind)

    def over(
        self, rectangle: Sequence[ir.Value], norms: Sequence[ir.Value] = (), author: Author | None = None
    ) -> ir.Value:
        """The same, of q, k and v over the rectangle, [R, S, ...], or all of them side by side."""
        author = self.author if author is None else author
        tiled = self.inputs.get("tiled_attention")
        if tiled is not None:
            return self._choose(author, rectangle, tiled)
        beside = [None] * (len(STREAMS) - len(rectangle))
        return self._node(author, [*rectangle, *beside], self.dtype, 3, norms)

    def _choose(self, author: Author, rectangle: Sequence[ir.Value], tiled: ir.Value) -> ir.Value:
        """Attention as `tiled` asks, in float32.

        onnxruntime's CPU kernel works in tiles, with memory in proportion to S, where the node names its present
        outputs, and else on the full score matrix, faster on short rows.
        """
        wide = list(rectangle) if self.dtype == SINGLE else [author.op("Cast", x, to=SINGLE) for x in rectangle]
        branches: dict[str, Any] = {}
        for name, outputs in (("then_branch", 3), ("else_branch", 1)):
            inner = author.branch()
            branches[name] = branch(name, inner, self._node(inner, wide, SINGLE, outputs))
        context = author.op("If", tiled, **branches)
        return context if self.dtype == SINGLE else author.op("Cast", context, to=self.dtype)

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
            normed = {"qk_norm_epsilon": self.config.rms_norm_eps}
        return author.ops(
            "GroupQueryAttention",
            outputs,
            *rectangle,
            None,
            None,
            self.inputs["row_lengths"],
            self.longest_row,
            *self.rope(dtype),
            *rest,
            domain=MICROSOFT,
            num_heads=self.config.num_attention_heads,
            kv_num_heads=self.config.num_key_value_heads,
            do_rotary=1,
            **normed,
        )[0]

    @cached_property
    def longest_row(self) -> ir.Value:
        """S as a scalar int32; CUDA's kernel wants it in the CPU's memory, where an input stays."""
        longest = self.inputs.get("longest_row")
        if longest is not None:
            return longest
        shape = self.author.op("Shape", self.inputs["attention_index"], start=1)
        return self.author.op("Cast", self.author.op("Squeeze", shape), to=ir.DataType.INT32)

    def rope(self, dtype: ir.DataType) -> tuple[ir.Value, ir.Value]:
        """Cos and sin [max_tokens, head_dim / 2], rounded as the graph's values are."""
        cos, sin = self._tables
        if dtype == self.dtype:
            return cos, sin
        return self._wide_tables

    @cached_property
    def _tables(self) -> tuple[ir.Value, ir.Value]:
        author, stored = self.author, self.stored_dtype
        cos, sin = (
            author.constant(f"rope_{name}_{stored.name.lower()}", table.astype(stored.numpy()))
            for name, table in zip(("cos", "sin"), rope_tables(self.config, self.max_tokens), strict=True)
        )
        return author.as_type(cos, stored, self.dtype), author.as_type(sin, stored, self.dtype)

    @cached_property
    def _wide_tables(self) -> tuple[ir.Value, ir.Value]:
        cos, sin = (self.author.op("Cast", table, to=SINGLE) for table in self._tables)
        return cos, sin


@dataclass(frozen=True)
class _Prefix:
    """A kept prefix: its inputs, whether it has tokens, and each position's row of the stream, 0 within the prefix."""

    inputs: PrefixInputs
    is_given: ir.Value
    query_index: ir.Value


def branch(name: str, author: Author, *outputs: ir.Value) -> ir.Graph:
    """What was authored for a branch of an `If`."""
    return ir.Graph([], outputs, nodes=author.tape.nodes, name=name)


def packing(read: ReadTensor, packed: Mapping[str, Sequence[str]]) -> ReadTensor:
    """Tensors by name, among them those of packed linear layers: their parts' rows, one below the other.

    Args:
        read: gives a tensor by its name in the checkpoint.
        packed: by the name of a packed linear layer, those that it is made of.
    """

    def with_packed(name: str) -> NDArray[Any]:
        parts = packed.get(name.removesuffix(".weight"))
        return read(name) if parts is None else np.concatenate([read(f"{part}.weight") for part in parts])

    return with_packed


@cache
def rope_tables(config: AttentionConfig, max_tokens: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cos and sin of position x frequency, [max_tokens, head_dim / 2] float32.

    Frequencies theta^(-2i/head_dim) and angles are rounded to float32 as transformers' `Qwen3RotaryEmbedding`
    does: at position 2000 the rounding of the angle is visible, and the reference's is the one to match.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (1.0 / (config.rope_theta ** exponents.astype(np.float64)).astype(np.float32)).astype(np.float32)
    angles = np.arange(max_tokens, dtype=np.float32)[:, None] * frequencies[None, :]
    return np.cos(angles), np.sin(angles)
