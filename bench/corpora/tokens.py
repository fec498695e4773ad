"""Seeded workloads, as token ids: the same for every system."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quoit.engine.planner import Row

END_TOKEN = 151_643
ORDINARY_TOKENS = 100_000


@dataclass(frozen=True)
class TokenWorkload:
    """Rows of token ids, each ending in the end token.

    Attributes:
        name: what tables call it.
        rows: the ids.
    """

    name: str
    rows: Sequence[Row]

    @property
    def tokens(self) -> int:
        """Real tokens, without padding."""
        return sum(map(len, self.rows))


def equal(count: int, length: int, seed: int) -> TokenWorkload:
    """`count` rows of `length` random tokens."""
    return TokenWorkload(f"{count}x{length}", _rows([length] * count, seed))


def log_normal(count: int, seed: int) -> TokenWorkload:
    """Rows of log-normal length (median 60 tokens, sigma 0.9, 4 to 512): many short texts, a few long ones."""
    generator = np.random.default_rng(seed)
    lengths = np.clip(generator.lognormal(np.log(60), 0.9, count), 4, 512).astype(int)
    return TokenWorkload(f"mix of {count}", _rows(lengths.tolist(), seed))


def _rows(lengths: list[int], seed: int) -> list[list[int]]:
    """Random ids share no prefix worth naming, so that prefix sharing helps nobody."""
    generator = np.random.default_rng(seed)
    return [[*generator.integers(0, ORDINARY_TOKENS, length - 1).tolist(), END_TOKEN] for length in lengths]
