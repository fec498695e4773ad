"""Describe a checkpoint's architecture for every family: tensors, attention, and the inputs of linear layers.

A family makes an `Architecture` from config.json. All other parts of export read the `Architecture`, and never parse a
tensor's name.
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
    """Sizes and constants of causal attention with RoPE, named as in transformers."""

    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float


@dataclass(frozen=True)
class LinearInput:
    """An input that one or more linear layers read. It has the name of the first of them.

    Attributes:
        layer: index of its decoder layer.
        linears: names in the checkpoint of the linear layers that read it.
        norm: name of the norm that gives it; the norm's weight may be folded into the columns of `linears`. None
            without a norm.
        producer: name of the linear layer whose rows may absorb a factor of the input's channels; None behind a norm.
        heads: True if it is attention's output. Its channels are then those of the value heads that `producer` gives,
            each read by several query heads.
        gated: True if it is the product of a gate and the output of `producer`.
        of_answers: True if it exists for the texts' answering tokens alone, since it lies behind the last attention.
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
        """Name of the first linear layer."""
        return self.linears[0]


@dataclass(frozen=True)
class Architecture:
    """Architecture of a model, as all parts of export see it.

    Attributes:
        title: name of the kind of model for messages, such as `dense Qwen3`.
        family: the family's record in the manifest.
        dimension: the width of the residual stream and of a state.
        vocab_size: the number of rows of the token table.
        attention: the sizes and constants of attention.
        costs: the costs of a batch.
        token_table: the name of the token table's tensor, [vocab_size, dimension].
        final_norm: the name of the last norm, without `.weight`, as in all names of layers.
        tensors: the shape of every tensor that the graph needs, by name; weights of linear layers are [out, in].
        inputs: the inputs of the linear layers, in the order of the graph.
        stream_writers: the linear layers whose results are added to the residual stream.
        packed: the parts of each packed linear layer that graphs may use, by its name; the parts' rows lie one below
            the other.
        author: the function that authors the layers; it returns the last tokens' states, [N, dimension].
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
        """Inputs of linear layers by name."""
        return {one.name: one for one in self.inputs}

    @cached_property
    def read_by(self) -> dict[str, LinearInput]:
        """Input that each linear layer reads, by the layer's name."""
        return {linear: one for one in self.inputs for linear in one.linears}

    @cached_property
    def given_by(self) -> dict[str, LinearInput]:
        """Input that each norm or producer gives, by its name."""
        named = ((name, one) for one in self.inputs for name in (one.norm, one.producer))
        return {name: one for name, one in named if name is not None}

    @property
    def gated(self) -> list[LinearInput]:
        """Inputs that are products of a gate, layer by layer."""
        return [one for one in self.inputs if one.gated]

    @property
    def layer_weights(self) -> int:
        """Number of weights in the linear layers of the largest decoder layer."""
        sizes = [0] * self.attention.num_hidden_layers
        for one in self.inputs:
            sizes[one.layer] += self.input_weights(one)
        return max(sizes)

    def input_weights(self, one: LinearInput) -> int:
        """Return the number of weights in the linear layers that read an input."""
        return sum(rows * columns for rows, columns in map(self.linear_shape, one.linears))

    def linear_shape(self, name: str) -> tuple[int, int]:
        """Return the shape [out, in] of a linear layer, either packed or one of the checkpoint's."""
        shapes = [self.tensors[f"{part}.weight"] for part in self.packed.get(name, (name,))]
        return sum(shape[0] for shape in shapes), shapes[0][1]
