"""Several hundred random sets of rows, planned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from quoit.engine.planner import Batch, Limits, plan_batches

CASES = 400
LARGEST_ID = 2**31
Row = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """Rows, limits and the plan that was made of them."""

    seed: int
    rows: list[Row]
    limits: Limits
    batches: list[Batch]


def random_rows(generator: np.random.Generator) -> list[Row]:
    """Rows of few or many ids, short or long, among them continuations, prefixes and copies of others."""
    ids = generator.choice([1, 2, 3, 50, 151_669, LARGEST_ID])
    longest = generator.choice([1, 4, 12, 40])
    rows: list[Row] = []
    for _ in range(generator.integers(1, 60)):
        row = generator.integers(0, ids, generator.integers(1, longest + 1)).tolist()
        if rows and generator.random() < 0.5:
            other = rows[generator.integers(len(rows))]
            kept = other[: generator.integers(1, len(other) + 1)]
            row = [*kept, *row] if generator.random() < 0.5 else kept
        rows.append(tuple(row))
    return rows


def random_limits(generator: np.random.Generator) -> Limits:
    return Limits(
        stream_tokens=int(generator.choice([1, 8, 64, 512])),
        rectangle_tokens=int(generator.choice([1, 16, 128, 2048])),
        tiled_from=[1, 5, 20, None][generator.integers(4)],
        share_prefixes=bool(generator.random() < 0.7),
    )


@cache
def cases() -> tuple[Case, ...]:
    """The random cases, planned."""
    found = []
    for seed in range(CASES):
        generator = np.random.default_rng(seed)
        rows, limits = random_rows(generator), random_limits(generator)
        if generator.random() < 0.5:
            limits = replace(limits, max_positions=max(map(len, rows)) + int(generator.integers(20)))
        found.append(Case(seed, rows, limits, list(plan_batches(rows, limits))))
    return tuple(found)


def rows_of(batch: Batch) -> list[Row]:
    """The ids of each row of a batch."""
    return [tuple(row.tolist()) for row in batch.rows]


def prefixes(rows: Sequence[Row]) -> set[Row]:
    """Every distinct beginning of the rows."""
    return {row[:end] for row in rows for end in range(1, len(row) + 1)}


def positions(tokens: int, limits: Limits) -> int:
    """The positions of a row that attention sees."""
    if limits.tiled_from is None or tokens < limits.tiled_from:
        return tokens
    padded = next(number for number in range(tokens + 1, tokens + 17) if number % 16 == 0)
    return padded if limits.max_positions is None else min(padded, limits.max_positions)


def stream_size(rows: Sequence[Row], limits: Limits) -> int:
    """The tokens that a batch of distinct rows must compute."""
    return len(prefixes(rows)) if limits.share_prefixes else sum(map(len, rows))
