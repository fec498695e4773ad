"""Large tensors worked on some rows at a time: a copy of the 8B shape's token table has 2.5 GB in float32."""

from collections.abc import Iterator

CHUNK_VALUES = 1 << 24
"""So many values at a time."""


def row_chunks(rows: int, width: int) -> Iterator[slice]:
    """The rows of a tensor [rows, width], in their order, in slices of about CHUNK_VALUES values."""
    step = max(1, CHUNK_VALUES // width)
    return (slice(start, start + step) for start in range(0, rows, step))
