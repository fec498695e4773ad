"""Rotates the hidden state of a trained model, so that what finds most comes first and prefixes lose less.

A rotation changes nothing of what the layers compute, as long as all that they write is rotated and all that they read
is rotated back (Ashkboos et al., 2024, "SliceGPT"); nor does it change a cosine of whole vectors. It is learned on the
states of the model as it is, which takes minutes where all of the model would take an hour, and with it the weight of
each dimension. This module does not know where batches come from.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from transformers import Qwen3Model

from train.encode import last_states, render_query, tokenize
from train.losses import contrast, no_negatives
from train.pairs import Taught
from train.student import CONTENT

STEPS = 100
RATE, WEIGHT_RATE = 5e-4, 5e-3
TOKENS = 128
"""Of a text."""


class Rotation(nn.Module):
    """Content rotated, then weighed.

    Attributes:
        linear: its weight stays orthogonal; the identity at first.
        weight: `[CONTENT]`, what the final norm's weight becomes.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.linear = parametrizations.orthogonal(nn.Linear(CONTENT, CONTENT, bias=False), orthogonal_map="matrix_exp")
        self.linear.weight = torch.eye(CONTENT)
        self.weight = nn.Parameter(weight.clone())

    def forward(self, states: Tensor) -> Tensor:
        """`[texts, CONTENT]` of as much."""
        found: Tensor = self.linear(states) * self.weight
        return found

    def matrix(self) -> Tensor:
        """`[CONTENT, CONTENT]`, orthogonal."""
        computed: Any = self.linear.weight
        found: Tensor = computed.detach()
        return found


def learn(model: Qwen3Model, tokenizer: Tokenizer, taught: Taught, deal: Iterator[list[int]], seed: int) -> Rotation:
    """The rotation and the weights by which the model's vectors of pairs are nearest to each other, at every length.

    Args:
        model: trained; it stays as it is.
        tokenizer: with the end token.
        taught: pairs and their teacher's vectors, which tell what is no negative.
        deal: batches of pairs' indices.
        seed: of the queries' forms.
    """
    choose = random.Random(seed)
    weight = model.norm.weight.detach()[:CONTENT]
    rotation = Rotation(weight)
    parameters = [
        {"params": rotation.linear.parameters(), "lr": RATE},
        {"params": [rotation.weight], "lr": WEIGHT_RATE},
    ]
    optimizer = torch.optim.Adam(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [RATE, WEIGHT_RATE], STEPS, pct_start=0.1, cycle_momentum=False
    )
    for batch in islice(deal, STEPS):
        pairs = [taught.pairs[index] for index in batch]
        texts = [render_query(pair, choose) for pair in pairs] + [pair.document for pair in pairs]
        with torch.no_grad():
            states = last_states(model, tokenize(tokenizer, texts, TOKENS))[:, :CONTENT] / weight
        queries, documents = rotation(states).split(len(pairs))
        loss: Any = contrast(queries, documents, no_negatives(pairs, torch.from_numpy(taught.documents[batch]).float()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return rotation


@torch.no_grad()
def rotate(model: Any, rotation: Rotation) -> None:
    """Puts the rotation into the weights of `model`; the norms' weights go into what reads them, but for the last."""
    hidden = model.config.hidden_size
    turn = torch.eye(hidden)
    turn[:CONTENT, :CONTENT] = rotation.matrix()

    def read(norm: Any, *linears: Any) -> None:
        for linear in linears:
            linear.weight.copy_(linear.weight * norm.weight @ turn.T)
        norm.weight.fill_(1)

    model.embed_tokens.weight.copy_(model.embed_tokens.weight @ turn.T)
    for layer in model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        read(layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj)
        read(layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)
        for linear in (attention.o_proj, mlp.down_proj):
            linear.weight.copy_(turn @ linear.weight)
    model.norm.weight[:CONTENT] = rotation.weight
