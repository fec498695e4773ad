"""Write results and vectors as `.jsonl` and `.parquet` files."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit.engine.pooling import Vectors
from quoit.errors import InputError
from quoit.files.atomic import check_writable, replacing

Ids = NDArray[np.int64]
About = Mapping[str, str | int | bool | None]
"""What is said of vectors beside them: the model, and all that they depend on."""
ABOUT = "quoit"
"""Key of the schema's metadata that holds it, as JSON."""
VECTOR_VALUES = "vector.list.element"
"""Path of the vectors' values in the schema of Parquet."""
ROWS_AT_A_TIME = 8192
"""Number of rows of vectors in one row group of a `.parquet` file."""


def check_destination(destination: Path, suffixes: Sequence[str]) -> None:
    """Refuse a file that cannot be written, before any work is done for it.

    Raises:
        InputError: the suffix is not among `suffixes` or needs a package that is not installed, or the file cannot be
            written.
    """
    if destination.suffix not in suffixes:
        raise InputError(
            f"{destination} has the unknown suffix {destination.suffix!r}; end it in one of {', '.join(suffixes)}"
        )
    if destination.suffix == ".parquet":
        pyarrow_parquet()
    check_writable(destination)


def write_records(destination: Path, records: Sequence[Mapping[str, object]], columns: Mapping[str, type]) -> None:
    """Write objects with the same keys as lines of a `.jsonl` file, or as rows of a `.parquet` file.

    Args:
        destination: the file.
        records: the objects; if there are none, a parquet file still has the columns.
        columns: type of each key's values: int, float or str.

    Raises:
        InputError: the file cannot be written, or the disk is full.
    """
    check_destination(destination, RECORD_SUFFIXES)
    if destination.suffix == ".jsonl":
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        with replacing(destination, len(lines)) as draft:
            draft.write_bytes(lines)
        return
    parquet = pyarrow_parquet()
    import pyarrow

    types = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    schema = pyarrow.schema({name: types[kind] for name, kind in columns.items()})
    with replacing(destination) as draft:
        parquet.write_table(pyarrow.Table.from_pylist([dict(record) for record in records], schema), draft)


def _write_jsonl(path: Path, vectors: Vectors, ids: Ids, about: About) -> None:  # noqa: ARG001  lines have no header
    with path.open("w", encoding="utf-8") as file:
        for row, vector in zip(ids, vectors, strict=True):
            file.write(json.dumps({"id": int(row), "vector": vector.tolist()}) + "\n")


def _write_parquet(path: Path, vectors: Vectors, ids: Ids, about: About) -> None:
    """Write a file whose floats are split by bytes before they are compressed: exponents are alike, mantissas are not.

    float32 vectors take about 0.85 of their own size then, and 1.02 as pyarrow writes them by default.
    """
    parquet = pyarrow_parquet()
    import pyarrow

    kind = pyarrow.list_(pyarrow.from_numpy_dtype(vectors.dtype), vectors.shape[1])
    metadata = {ABOUT: json.dumps(about, ensure_ascii=False)}
    schema = pyarrow.schema({"id": pyarrow.int64(), "vector": kind}, metadata)
    split = [VECTOR_VALUES] if np.issubdtype(vectors.dtype, np.floating) else False
    options = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": split}
    with parquet.ParquetWriter(path, schema, **options) as writer:
        for start in range(0, len(vectors), ROWS_AT_A_TIME):
            some = np.ascontiguousarray(vectors[start : start + ROWS_AT_A_TIME])
            values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(some.ravel()), vectors.shape[1])
            rows = pyarrow.array(ids[start : start + len(some)], pyarrow.int64())
            writer.write_table(pyarrow.Table.from_arrays([rows, values], schema=schema))


def pyarrow_parquet() -> Any:
    """Return the module pyarrow.parquet.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"parquet needs pyarrow ({error}); `pip install 'quoit[parquet]'`, or use another format"
        ) from error
    return parquet


VECTOR_WRITERS: dict[str, Callable[[Path, Vectors, Ids, About], None]] = {
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
RECORD_SUFFIXES = (".jsonl", ".parquet")
