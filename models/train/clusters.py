"""Batches of pairs: a few clusters of similar documents each, so that a batch's documents are hard negatives.

This module does not know what is learned from a batch.
"""

import random
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from train.pairs import Taught

PAIRS_PER_GROUP = 32
PAIRS_PER_CLUSTER = 128
"""On average; larger than a group, so that each pass puts other documents together."""
DIMENSIONS = 64


def clusters(taught: Taught, directions: NDArray[np.float32], seed: int) -> list[list[int]]:
    """Groups of pairs with similar documents, those without a teacher's vector by source.

    Args:
        taught: pairs and their teacher's vectors.
        directions: `[384, n]`, the projection of those vectors; its first columns decide what is similar.
        seed: of the clustering.
    """
    known = np.flatnonzero(taught.documents.any(axis=1))
    vectors = taught.documents[known].astype(np.float32) @ directions[:, :DIMENSIONS]
    count = max(1, len(known) // PAIRS_PER_CLUSTER)
    labels = MiniBatchKMeans(count, batch_size=8_192, n_init=1, max_iter=5, random_state=seed).fit_predict(vectors)
    members: dict[int | str, list[int]] = {}
    for index, label in zip(known.tolist(), labels.tolist(), strict=True):
        members.setdefault(label, []).append(index)
    for index in sorted(set(range(len(taught.pairs))).difference(known.tolist())):
        members.setdefault(taught.pairs[index].source, []).append(index)
    return list(members.values())


def cut(found: list[int]) -> list[list[int]]:
    """Groups of PAIRS_PER_GROUP; the last may be smaller."""
    return [found[at : at + PAIRS_PER_GROUP] for at in range(0, len(found), PAIRS_PER_GROUP)]


def batches(found: Sequence[Sequence[int]], pairs: int, seed: int) -> Iterator[list[int]]:
    """Batches of `pairs` without end: each pass shuffles the clusters, cuts them into groups and deals those out."""
    choose = random.Random(seed)
    size = pairs // PAIRS_PER_GROUP
    while True:
        groups: list[list[int]] = []
        rest: list[int] = []
        for cluster in found:
            shuffled = choose.sample(cluster, len(cluster))
            whole = len(cluster) // PAIRS_PER_GROUP * PAIRS_PER_GROUP
            groups += cut(shuffled[:whole])
            rest += shuffled[whole:]
        choose.shuffle(rest)
        groups += cut(rest)
        choose.shuffle(groups)
        for at in range(0, len(groups) - size + 1, size):
            yield [index for group in groups[at : at + size] for index in group]
