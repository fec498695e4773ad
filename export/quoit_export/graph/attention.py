"""Author causal attention with RoPE over the rectangle of gathered rows, with the nodes that each target needs.

This module does not know what the rows mean, nor how linear layers are stored.
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
from quoit_export.precisions.encoding import MICROSOFT, NATIVE, Author, ReadTensor

SINGLE = ir.DataType.FLOAT
STREAMS = ("query", "key", "value")
"""Streams that the attention node reads, side by side in its first input, or in one input each."""


@dataclass(frozen=True)
class Attention:
    """Authors the attention nodes of a decoder's layers.

    Attributes:
        author: the author of the graph.
        config: the sizes and constants of attention.
        dtype: the type of q, k and v.
        stored_dtype: the type in which the RoPE tables are stored.
        inputs: the inputs of the graph.
        max_tokens: the length of the longest sequence, which sizes the RoPE tables.
        target: the target of the graph.
        presents: outputs of the graph, the keys and values to keep of each layer authored so far.
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
        """Split q, k and v that lie side by side on the last axis."""
        config = self.config
        sizes = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
        lengths = self.author.constant("qkv_sizes", np.array(sizes, np.int64) * config.head_dim)
        return self.author.ops("Split", len(sizes), packed, lengths, axis=-1)

    def attend(self, layer: int, stream: list[ir.Value], norms: list[ir.Value], slots: ir.Value | None) -> ir.Value:
        """Return the heads' outputs at the rectangle's `slots`, [len(slots), heads * head_dim].

        Args:
            layer: index of the decoder layer.
            stream: q, k and v of every stream row, [T, ...], or one value with all three side by side.
            norms: the weights of q's and k's norms if the node normalises, else empty.
            slots: the indices in the flattened rectangle [R * S]; None for all positions.
        """
        if self.target.native:
            return self._native(layer, stream, norms, slots)
        if self._prefix is not None:
            context = self._behind(self._prefix, layer, *stream)
        else:
            context = self.over([self.rectangle(rows) for rows in stream], norms)
        width = self.config.num_attention_heads * self.config.head_dim
        shape = self.author.constant("flat_heads", np.array([-1, width], np.int64))
        flat = self.author.op("Reshape", context, shape)
        return flat if slots is None else self.author.op("Gather", flat, slots)

    def _native(self, layer: int, stream: list[ir.Value], norms: list[ir.Value], slots: ir.Value | None) -> ir.Value:
        """Author quoit's own operator, which reads the stream itself and computes its own queries alone."""
        config, prefix = self.config, self.inputs.prefix
        assert prefix is not None
        context, *presents = self.author.ops(
            "PackedAttention1",
            3,
            *stream,
            *self.rope(SINGLE),
            self.inputs["attention_index"],
            slots,
            *prefix.past[layer],
            prefix.kept_row,
            *norms,
            domain=NATIVE,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            epsilon=config.rms_norm_eps,
            scale=config.head_dim**-0.5,
        )
        self._keep(layer, presents)
        return context

    def _keep(self, layer: int, presents: list[ir.Value]) -> None:
        """Make a layer's keys and values of the kept rows outputs of the graph."""
        for name, present in zip(("key", "value"), presents, strict=True):
            present.name, present.dtype = f"present.{layer}.{name}", SINGLE
            present.shape = ir.Shape(["K", self.config.num_key_value_heads * self.config.head_dim])
            self.presents.append(present)

    def rectangle(self, rows: ir.Value) -> ir.Value:
        """Return stream rows [T, ...] as attention reads them, [R, S, ...]."""
        rectangle = self.inputs.get("rectangle")
        if rectangle is not None:
            return self.author.op("Reshape", rows, rectangle)
        return self.author.op("Gather", rows, self.inputs["attention_index"])

    def _behind(self, prefix: "_Prefix", layer: int, query: ir.Value, *pair: ir.Value) -> ir.Value:
        """Author attention whose keys and values may begin with those of a kept prefix; rows behind a prefix are short.

        Nothing reads attention's output at the prefix's positions, so any query will do there. Without a prefix,
        nothing is put before the stream's rows, since that would copy them.

        The rows to keep are gathered within the branches. Outside, onnxruntime would gather them last, because no other
        node needs them. It would hold the keys and values of all layers until then.
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
        self._keep(layer, presents)
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
        """Return the heads' outputs for q, k and v over the rectangle, [R, S, ...], or all three side by side."""
        author = self.author if author is None else author
        tiled = self.inputs.get("tiled_attention")
        if tiled is not None:
            return self._choose(author, rectangle, tiled)
        beside = [None] * (len(STREAMS) - len(rectangle))
        return self._node(author, [*rectangle, *beside], self.dtype, 3, norms)

    def _choose(self, author: Author, rectangle: Sequence[ir.Value], tiled: ir.Value) -> ir.Value:
        """Author attention in float32, in tiles or not as the graph's input `tiled` says.

        If the node names its present outputs, onnxruntime's CPU kernel works in tiles, with memory in proportion to S.
        Otherwise it works on the full score matrix, which is faster on short rows.
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
        """Author one GroupQueryAttention node with its RoPE tables and lengths.

        CUDA's kernels write the present keys and values, so the node names those outputs there. The node has no
        attention bias, since a bias would prevent flash attention.
        """
        normed: dict[str, Any] = {}
        rest: list[ir.Value | None] = []
        if norms:
            # Five unused inputs behind the RoPE tables: positions, bias, sink, and the scales of a quantized cache.
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
        """S as a scalar int32; CUDA's kernel needs it in the CPU's memory, where an input stays."""
        longest = self.inputs.get("longest_row")
        if longest is not None:
            return longest
        shape = self.author.op("Shape", self.inputs["attention_index"], start=1)
        return self.author.op("Cast", self.author.op("Squeeze", shape), to=ir.DataType.INT32)

    def rope(self, dtype: ir.DataType) -> tuple[ir.Value, ir.Value]:
        """Return cos and sin [max_tokens, head_dim / 2] in `dtype`, rounded as the graph's values are."""
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
    """A kept prefix in the graph.

    Attributes:
        inputs: the graph inputs of the prefix.
        is_given: whether the prefix has tokens.
        query_index: the stream row of each position's query; 0 within the prefix.
    """

    inputs: PrefixInputs
    is_given: ir.Value
    query_index: ir.Value


def branch(name: str, author: Author, *outputs: ir.Value) -> ir.Graph:
    """Return the subgraph of an `If` branch from the nodes that its author collected."""
    return ir.Graph([], outputs, nodes=author.tape.nodes, name=name)


def packing(read: ReadTensor, packed: Mapping[str, Sequence[str]]) -> ReadTensor:
    """Return a reader of tensors that also knows packed linear layers: their parts' rows, one below the other.

    Args:
        read: function that returns a tensor by its name in the checkpoint.
        packed: the parts of each packed linear layer, by its name.
    """

    def with_packed(name: str) -> NDArray[Any]:
        parts = packed.get(name.removesuffix(".weight"))
        return read(name) if parts is None else np.concatenate([read(f"{part}.weight") for part in parts])

    return with_packed


@cache
def rope_tables(config: AttentionConfig, max_tokens: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cos and sin of position x frequency, [max_tokens, head_dim / 2] float32.

    Frequencies theta^(-2i/head_dim) and angles are rounded to float32 as transformers' `Qwen3RotaryEmbedding` does. At
    position 2000 the rounding of the angle is visible, and it has to match the reference's.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (1.0 / (config.rope_theta ** exponents.astype(np.float64)).astype(np.float32)).astype(np.float32)
    angles = np.arange(max_tokens, dtype=np.float32)[:, None] * frequencies[None, :]
    return np.cos(angles), np.sin(angles)
