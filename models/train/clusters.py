"""Batches of pairs: a few clusters of similar documents each, so that a batch's documents are hard negatives.

This module does not know what is learned from a batch.
"""

import random
from collections.abc import Iterator

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from train.pairs import Taught

PAIRS_PER_BATCH = 128
PAIRS_PER_CLUSTER = 32


def clusters(taught: Taught, seed: int) -> list[list[int]]:
    """Groups of pairs with similar documents, those without a teacher's vector by source."""
    known = np.flatnonzero(taught.documents.any(axis=1))
    count = len(known) // (2 * PAIRS_PER_CLUSTER)
    clustering = MiniBatchKMeans(count, batch_size=8_192, n_init=1, max_iter=5, random_state=seed)
    labels = clustering.fit_predict(taught.documents[known].astype(np.float32))
    members: dict[int | str, list[int]] = {}
    for index, label in zip(known.tolist(), labels.tolist(), strict=True):
        members.setdefault(label, []).append(index)
    for index in sorted(set(range(len(taught.pairs))).difference(known.tolist())):
        members.setdefault(taught.pairs[index].source, []).append(index)
    return list(members.values())


def cut(found: list[int]) -> list[list[int]]:
    """Groups of PAIRS_PER_CLUSTER; the last may be smaller."""
    return [found[at : at + PAIRS_PER_CLUSTER] for at in range(0, len(found), PAIRS_PER_CLUSTER)]


def batches(taught: Taught, seed: int) -> Iterator[list[int]]:
    """Batches without end: each pass clusters anew, cuts the clusters into groups and deals those out."""
    choose = random.Random(seed)
    size = PAIRS_PER_BATCH // PAIRS_PER_CLUSTER
    while True:
        groups: list[list[int]] = []
        rest: list[int] = []
        for cluster in clusters(taught, seed):
            choose.shuffle(cluster)
            whole = len(cluster) // PAIRS_PER_CLUSTER * PAIRS_PER_CLUSTER
            groups += cut(cluster[:whole])
            rest += cluster[whole:]
        choose.shuffle(rest)
        groups += cut(rest)
        choose.shuffle(groups)
        for at in range(0, len(groups) - size + 1, size):
            yield [index for group in groups[at : at + size] for index in group]
        seed += 1
