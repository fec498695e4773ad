"""A checkpoint's architecture in terms that hold for every family: tensors, attention, and who reads what.

A family makes an `Architecture` from config.json; all other parts of export ask it, and take no tensor's name apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import onnx_ir as ir

from quoit.artifact import Costs, Family

if TYPE_CHECKING:
    from quoit_export.graph.blocks import Blocks


@dataclass(frozen=True)
class AttentionConfig:
    """The numbers of causal attention with RoPE, named as in transformers."""

    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float


@dataclass(frozen=True)
class LinearInput:
    """An input of linear layers: what one or more of them read. It is called by the first of them.

    Attributes:
        layer: the number of its decoder layer.
        linears: the linear layers that read it, by their names in the checkpoint.
        norm: the norm that gives it, and whose weight may be folded into the columns of `linears`; None without one.
        producer: the linear layer in whose rows a factor of its channels may be folded; None behind a norm.
        heads: whether it is attention's output, so that its channels are those of the value heads that `producer`
            gives, each read by several query heads.
        gated: whether it is the product of a gate and what `producer` gives.
        of_answers: whether it exists for the texts' answering tokens alone, since it lies behind the last attention.
    """

    layer: int
    linears: tuple[str, ...]
    norm: str | None = None
    producer: str | None = None
    heads: bool = False
    gated: bool = False
    of_answers: bool = False

    @property
    def name(self) -> str:
        """The name of the first linear layer."""
        return self.linears[0]


@dataclass(frozen=True)
class Architecture:
    """What export knows of a model.

    Attributes:
        title: the kind of model in words, such as `dense Qwen3`.
        family: what the manifest says of it.
        dimension: the width of the residual stream and of a state.
        vocab_size: the number of rows of the token table.
        attention: the numbers of attention.
        costs: what a batch costs.
        token_table: the name of the token table's tensor, [vocab_size, dimension].
        final_norm: the name of the last norm, without `.weight` as all names of layers.
        tensors: every tensor that the graph needs, and its shape; of linear layers [out, in].
        inputs: what the linear layers read, in the order of the graph.
        stream_writers: the linear layers whose results are added to the residual stream.
        packed: linear layers that graphs may use, made of several of the checkpoint's, one below the other.
        author: the function that authors the layers; it gives the last tokens' states, [N, dimension].
    """

    title: str
    family: Family
    dimension: int
    vocab_size: int
    attention: AttentionConfig
    costs: Costs
    token_table: str
    final_norm: str
    tensors: dict[str, tuple[int, ...]]
    inputs: tuple[LinearInput, ...]
    stream_writers: frozenset[str]
    packed: dict[str, tuple[str, ...]]
    author: Callable[["Blocks"], ir.Value] = field(compare=False)

    @cached_property
    def input(self) -> dict[str, LinearInput]:
        """The inputs by name."""
        return {one.name: one for one in self.inputs}

    @cached_property
    def read_by(self) -> dict[str, LinearInput]:
        """The input that each linear layer reads."""
        return {linear: one for one in self.inputs for linear in one.linears}

    @cached_property
    def given_by(self) -> dict[str, LinearInput]:
        """The input that each norm gives, and the one that each producer does."""
        named = ((name, one) for one in self.inputs for name in (one.norm, one.producer))
        return {name: one for name, one in named if name is not None}

    @property
    def gated(self) -> list[LinearInput]:
        """The inputs that are products of a gate, layer by layer."""
        return [one for one in self.inputs if one.gated]

    @property
    def layer_weights(self) -> int:
        """The weights of the linear layers of one decoder layer, the largest one's."""
        sizes = [0] * self.attention.num_hidden_layers
        for one in self.inputs:
            sizes[one.layer] += sum(rows * columns for rows, columns in map(self.linear_shape, one.linears))
        return max(sizes)

    def linear_shape(self, name: str) -> tuple[int, int]:
        """The shape [out, in] of a linear layer, be it packed or one of the checkpoint's."""
        shapes = [self.tensors[f"{part}.weight"] for part in self.packed.get(name, (name,))]
        return sum(shape[0] for shape in shapes), shapes[0][1]
