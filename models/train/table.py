"""The token table, trained alone first: a text is the weighted sum of its tokens' rows, and there are no layers.

A pass over all pairs takes seconds this way, so that rare tokens are met often too; the layers then learn what a
sum cannot say. This module does not know of the model that the table goes into.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from train.encode import reword, tokenize
from train.losses import contrast, distance, no_negatives
from train.pairs import Taught

RESERVED = 5
"""Columns that the model has for other things."""
STEPS = 1_000
RATE = 5e-3
TOKENS = 128
"""Of a text."""
EVEN = np.ones(TOKENS, np.float32)
TEACHER_WEIGHT = 2.0
DROPPED = 0.25
"""Of a document's tokens each time it is met, so that no few words alone tell it from others."""
COMMON = 1e-3
"""A token that is this share of all tokens starts with half of the weight of a rare one (Arora et al., 2017)."""


@dataclass(frozen=True)
class Table:
    """A direction and a weight for every token.

    Attributes:
        rows: float32 `[tokens, hidden]`, unit rows; the last RESERVED columns are zero.
        weights: float32 `[tokens]`, logarithms of what a token counts in a text, their mean zero.
    """

    rows: NDArray[np.float32]
    weights: NDArray[np.float32]


def sums(bag: nn.EmbeddingBag, texts: Sequence[list[int]], places: NDArray[np.float32]) -> Tensor:
    """`[texts, hidden]`: the sum of each text's rows, without the end token's, times the weights of their `places`."""
    tokens = torch.tensor([token for ids in texts for token in ids[:-1]])
    lengths = [0, *(len(ids) - 1 for ids in texts[:-1])]
    weights = torch.from_numpy(np.concatenate([places[: len(ids) - 1] for ids in texts]))
    found: Tensor = bag(tokens, torch.tensor(lengths).cumsum(0), weights)
    return found


def thinned(ids: list[int], choose: random.Random) -> list[int]:
    """A text without a share of its tokens, DROPPED on average; never without its last, the end token."""
    return [*(token for token in ids[:-1] if choose.random() >= DROPPED), ids[-1]]


def train(
    first: NDArray[np.float32],
    tokenizer: Tokenizer,
    taught: Taught,
    directions: NDArray[np.float32],
    deal: Iterator[list[int]],
    seed: int,
    before: str = "",
    places: NDArray[np.float32] = EVEN,
) -> Table:
    """A table for bags of tokens.

    Args:
        first: `[tokens, hidden]`, where it starts.
        tokenizer: with the end token.
        taught: pairs and their teacher's vectors.
        directions: `[384, hidden]`, the projection of the teacher's vectors.
        deal: batches of pairs' indices.
        seed: of the queries' forms.
        before: what stands in front of every text; a token is another one behind a space.
        places: `[TOKENS]`, how much a document's tokens count by where they stand.
    """
    choose = random.Random(seed)
    known = tokenize(tokenizer, [before + pair.document for pair in taught.pairs], TOKENS)
    shares = np.bincount(np.concatenate(known), minlength=len(first)) / sum(map(len, known))
    narrow = (first * (COMMON / (COMMON + shares))[:, None]).astype(np.float32)
    narrow[:, -RESERVED:] = 0
    bag = nn.EmbeddingBag.from_pretrained(torch.from_numpy(narrow), freeze=False, mode="sum")
    project = torch.from_numpy(directions)
    weights: Any = bag.weight
    weights.register_hook(lambda gradient: functional.pad(gradient[:, :-RESERVED], (0, RESERVED)))
    optimizer = torch.optim.Adam(bag.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.05, cycle_momentum=False)
    for _ in range(STEPS):
        batch = next(deal)
        pairs = [taught.pairs[index] for index in batch]
        queries = sums(bag, tokenize(tokenizer, [before + reword(pair, choose) for pair in pairs], TOKENS), EVEN)
        documents = sums(bag, [thinned(known[index], choose) for index in batch], places)
        of_queries, of_documents = (
            torch.from_numpy(side[batch].astype(np.float32)) for side in (taught.queries, taught.documents)
        )
        near = distance(queries, of_queries @ project) + distance(documents, of_documents @ project)
        loss: Any = contrast(queries, documents, no_negatives(pairs, of_documents)) + TEACHER_WEIGHT * near
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    rows: NDArray[np.float32] = bag.weight.detach().numpy()
    norms = np.linalg.norm(rows, axis=1).clip(1e-6)
    weights = np.log(norms)
    return Table(rows / norms[:, None], weights - weights.mean())


def save(table: Table, file: Path) -> None:
    """Writes `file` (.npz), whole or not at all."""
    draft = file.with_suffix(".draft.npz")
    np.savez(draft, rows=table.rows, weights=table.weights)
    draft.rename(file)


def load(file: Path) -> Table:
    """What `save` wrote."""
    with np.load(file) as found:
        return Table(found["rows"], found["weights"])
