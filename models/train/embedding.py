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

from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE
from train.course import Course, follow
from train.encode import last_states, ndcg_at_10, render_query, tokenize
from train.losses import DIMENSIONS, contrast, distance, no_negatives
from train.pairs import Pair, Taught

TOKENS = 64
MEASURED_TOKENS = 256
LONG_TOKENS = 256
LONG_SHARE = 0.12
"""Share of batches, of half of the pairs, that see documents of up to LONG_TOKENS."""
TEACHER_WEIGHT = 2.0


@torch.no_grad()
def measure(model: Callable[..., Any], tokenizer: Tokenizer, pairs: Sequence[Pair]) -> dict[str, float]:
    """nDCG@10 of each source among its own documents, whole and at half and quarter dimensions."""
    prompt = INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)
    found = {}
    for source in dict.fromkeys(pair.source for pair in pairs):
        part = [pair for pair in pairs if pair.source == source]
        sides = ([prompt + pair.query for pair in part], [pair.document for pair in part])
        queries, documents = (last_states(model, tokenize(tokenizer, side, MEASURED_TOKENS)) for side in sides)
        for size in DIMENSIONS:
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
        directions: `[384, HIDDEN]`, the projection of the teacher's vectors.
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
