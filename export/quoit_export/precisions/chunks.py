"""Cut large tensors into chunks of rows: a copy of the 8B shape's token table has 2.5 GB in float32."""

from collections.abc import Iterator

CHUNK_VALUES = 1 << 24
"""Approximate number of values in a chunk."""


def row_chunks(rows: int, width: int) -> Iterator[slice]:
    """Return slices of the rows of a tensor [rows, width], in order, of about CHUNK_VALUES values each."""
    step = max(1, CHUNK_VALUES // width)
    return (slice(start, start + step) for start in range(0, rows, step))
