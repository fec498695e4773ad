"""The projections of an attention layer by head and place, for layers that are written by hand.

This module does not know what a layer is to compute.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Heads:
    """One layer's queries, keys, values and output; all zero but for a little of everything in queries and keys.

    Of that training can make something: where all is zero there is no gradient. A group is the query heads that share
    a key head, and a number one of each group.

    Attributes:
        queries: `[heads, head_dim, hidden]`, a view of the weights, as are the next two.
        keys: `[key_value_heads, head_dim, hidden]`
        values: likewise.
        output: `[hidden, heads, head_dim]`
        sharpness: `[head_dim]`, the weight of q_norm.
    """

    def __init__(self, attention: Any, places: Iterable[int], query_view: float, key_view: float) -> None:
        """Empties `places` of every head, and all of values and output."""
        config = attention.config
        self.hidden = config.hidden_size
        self.group = config.num_attention_heads // config.num_key_value_heads
        self.queries, self.keys, self.values = (
            linear.weight.view(-1, config.head_dim, config.hidden_size)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        self.output = attention.o_proj.weight.view(config.hidden_size, -1, config.head_dim)
        self.sharpness = attention.q_norm.weight
        for heads, view in ((self.queries, query_view), (self.keys, key_view)):
            heads.copy_(view * nn.init.orthogonal_(torch.empty(heads.shape).flatten(0, 1)).view(heads.shape))
            heads[:, sorted(places)] = 0
        self.values.zero_()
        self.output.zero_()

    def see(self, place: int, dimension: int, gain: float) -> None:
        """All keys have a dimension of the state in a place."""
        self.keys[:, place, dimension] = gain

    def ask(self, number: int, place: int, dimension: int, gain: float) -> None:
        """The query heads of a number ask for a place as much as a dimension says."""
        self.queries[number :: self.group, place, dimension] = gain

    def detect(self, number: int, label: int, place: int, asking: int, gain: float, value: float) -> None:
        """The query heads of a number attend to the token that has a label, in a place that all ask for by a dimension.

        What they find, in the dimension `number` of the first values: `value` times the label, nothing without one.
        """
        self.see(place, label, gain)
        self.ask(number, place, asking, gain)
        self.values[0, number, label] = value * self.hidden**-0.5

    def copy(self, parts: Sequence[Tensor]) -> None:
        """Values are parts of the state's dimensions, one for each key head."""
        for head, part in enumerate(parts):
            self.values[head, torch.arange(len(part)), part] = 1

    def write(self, number: int, parts: Sequence[Tensor], gain: float) -> None:
        """What the query heads of a number copied goes to parts of the state's dimensions."""
        for head, part in enumerate(parts):
            self.output[part, head * self.group + number, torch.arange(len(part))] = gain * self.hidden**-0.5
