"""What vectors of pairs should be like: near each other, near the teacher's, at every prefix length.

This module does not know what makes the vectors.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from train.pairs import Pair

DIMENSIONS = (384, 192, 96)
TEMPERATURE = 0.04
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
    _, groups = np.unique([pair.group for pair in pairs], return_inverse=True)
    excluded = documents @ documents.T > SAME_MEANING
    excluded |= torch.from_numpy(groups[:, None] == groups[None])
    return excluded.fill_diagonal_(False)
