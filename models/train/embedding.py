"""Trains the small embedding model: in-batch contrast at four prefix lengths, beside the teacher's own vectors.

This module does not know where the pairs come from, nor how batches are put together.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3Model

from quoit.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE
from train.course import Course, follow
from train.encode import last_states, ndcg_at_10, render_query, tokenize
from train.pairs import Pair, Taught

TOKENS = 128
LONG_TOKENS = 512
LONG_SHARE = 0.06
"""Share of batches, of half of the pairs, that see documents of up to LONG_TOKENS."""
DIMENSIONS = (256, 128, 64, 32)
TEMPERATURE = 0.04
TEACHER_WEIGHT = 2.0
SAME_MEANING = 0.92
"""Documents whose teacher vectors are as near as this are not negatives of each other's queries."""


def contrast(queries: Tensor, documents: Tensor, excluded: Tensor) -> Tensor:
    """InfoNCE both ways, averaged over DIMENSIONS; `excluded` [pairs, pairs] are no negatives."""
    labels = torch.arange(len(queries))
    losses = []
    for size in DIMENSIONS:
        left, right = (functional.normalize(side[:, :size], dim=1) for side in (queries, documents))
        scores = (left @ right.T / TEMPERATURE).masked_fill(excluded, -torch.inf)
        losses += [functional.cross_entropy(scores, labels), functional.cross_entropy(scores.T, labels)]
    return torch.stack(losses).mean()


def distance(states: Tensor, targets: Tensor) -> Tensor:
    """1 - cosine to the teacher's projected vectors, averaged over DIMENSIONS and the rows that have one."""
    known = targets.abs().amax(dim=1) > 0
    if not known.any():
        return states.new_zeros(())
    sizes = [1 - functional.cosine_similarity(states[known, :n], targets[known, :n]).mean() for n in DIMENSIONS]
    return torch.stack(sizes).mean()


def no_negatives(pairs: Sequence[Pair], documents: Tensor) -> Tensor:
    """`[pairs, pairs]`: documents of one family, or that mean the same to the teacher; never a pair's own."""
    groups = [pair.group for pair in pairs]
    excluded = documents @ documents.T > SAME_MEANING
    excluded |= torch.tensor([[one == other for other in groups] for one in groups])
    return excluded.fill_diagonal_(False)


@torch.no_grad()
def measure(model: Callable[..., Any], tokenizer: Tokenizer, pairs: Sequence[Pair]) -> dict[str, float]:
    """nDCG@10 of each source among its own documents, whole and at half and quarter dimensions."""
    prompt = INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)
    found = {}
    for source in dict.fromkeys(pair.source for pair in pairs):
        part = [pair for pair in pairs if pair.source == source]
        sides = ([prompt + pair.query for pair in part], [pair.document for pair in part])
        queries, documents = (last_states(model, tokenize(tokenizer, side, 2 * TOKENS)) for side in sides)
        for size in DIMENSIONS[:3]:
            left, right = (functional.normalize(side[:, :size], dim=1) for side in (queries, documents))
            found[f"{source}@{size}"] = round(ndcg_at_10((left @ right.T).numpy()), 4)
    return found


def train(
    model: Qwen3Model,
    tokenizer: Tokenizer,
    taught: Taught,
    directions: NDArray[np.float32],
    deal: Iterator[list[int]],
    development: Sequence[Pair],
    course: Course,
) -> None:
    """Trains `model` in place.

    Args:
        model: as `student.start` makes it.
        tokenizer: with the end token.
        taught: pairs and their teacher's vectors.
        directions: `[384, 256]`, the projection of the teacher's vectors.
        deal: batches of pairs' indices.
        development: pairs that are measured on the way.
        course: how long.
    """
    choose = random.Random(course.seed)
    project = torch.from_numpy(directions)
    compiled = torch.compile(model, dynamic=True)

    def loss() -> Tensor:
        batch, limit = next(deal), TOKENS
        if choose.random() < LONG_SHARE:
            batch, limit = batch[: len(batch) // 2], LONG_TOKENS
        pairs = [taught.pairs[index] for index in batch]
        ids = tokenize(tokenizer, [render_query(pair, choose) for pair in pairs], limit)
        ids += tokenize(tokenizer, [pair.document for pair in pairs], limit)
        states = last_states(compiled, ids)
        queries, documents = states[: len(pairs)], states[len(pairs) :]
        of_queries, of_documents = (
            torch.from_numpy(side[batch].astype(np.float32)) for side in (taught.queries, taught.documents)
        )
        near = distance(queries, of_queries @ project) + distance(documents, of_documents @ project)
        return contrast(queries, documents, no_negatives(pairs, of_documents)) + TEACHER_WEIGHT * near

    follow(course, model, loss, lambda: measure(compiled, tokenizer, development))
