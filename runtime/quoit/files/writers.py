"""Write results and vectors as `.jsonl`, `.parquet` and `.lance`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from quoit.engine.pooling import Vectors
from quoit.errors import InputError
from quoit.files.atomic import check_replaceable, check_writable, replacing
from quoit.files.kept import Kept
from quoit.files.packages import lance_module, pyarrow_parquet

About = Mapping[str, str | int | bool | list[list[float]] | None]
"""What is said of vectors beside them: the model, and all that they depend on."""
ABOUT = "quoit"
"""Key of the schema's metadata that holds it, as JSON."""
LANCE = ".lance"
"""Suffix of a Lance dataset, which is a folder."""
LANCE_VERSIONS = "_versions"
"""Folder inside of every Lance dataset (https://lance.org/format/table)."""


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
    if destination.suffix == LANCE:
        lance_module()
        check_replaceable(destination, LANCE_VERSIONS)
    else:
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


def _write_jsonl(path: Path, vectors: Vectors, beside: Kept, about: About, names: Sequence[str]) -> None:  # noqa: ARG001  lines have no header
    with path.open("wb") as file:
        for values, vector in zip(beside.values(), vectors, strict=True):
            line = dict(zip(names, (*values, vector.tolist()), strict=True))
            file.write(msgspec.json.encode(line) + b"\n")


def _write_parquet(path: Path, vectors: Vectors, beside: Kept, about: About, names: Sequence[str]) -> None:
    """Write a file whose floats are split by bytes before they are compressed: exponents are alike, mantissas are not.

    float32 vectors take about 0.85 of their own size then, and 1.02 as pyarrow writes them by default.
    """
    parquet = pyarrow_parquet()
    schema, tables = _with_vectors(vectors, beside, about, names[-1])
    split = [f"{names[-1]}.list.element"] if np.issubdtype(vectors.dtype, np.floating) else False
    options = {"compression": "zstd", "use_dictionary": list(names[1:-1]), "use_byte_stream_split": split}
    with parquet.ParquetWriter(path, schema, **options) as writer:
        for table in tables:
            writer.write_table(table)


def _write_lance(path: Path, vectors: Vectors, beside: Kept, about: About, names: Sequence[str]) -> None:
    import pyarrow

    schema, tables = _with_vectors(vectors, beside, about, names[-1])
    batches = (batch for table in tables for batch in table.to_batches())
    lance_module().write_dataset(pyarrow.RecordBatchReader.from_batches(schema, batches), str(path), mode="create")


def _with_vectors(vectors: Vectors, beside: Kept, about: About, name: str) -> tuple[Any, Iterator[Any]]:
    """Return the schema with a column of vectors at its end, and the tables of the rows."""
    import pyarrow

    schema, tables = beside.tables()
    field = pyarrow.field(name, pyarrow.list_(pyarrow.from_numpy_dtype(vectors.dtype), vectors.shape[1]))
    metadata = {ABOUT: json.dumps(about, ensure_ascii=False)}
    return schema.append(field).with_metadata(metadata), _tables_with_vectors(vectors, tables, field, metadata)


def _tables_with_vectors(
    vectors: Vectors, tables: Iterator[Any], field: Any, metadata: dict[str, str]
) -> Iterator[Any]:
    import pyarrow

    start = 0
    for table in tables:
        some = np.ascontiguousarray(vectors[start : start + table.num_rows])
        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(some.ravel()), vectors.shape[1])
        start += len(some)
        yield table.append_column(field, values).replace_schema_metadata(metadata)
    if start != len(vectors):
        raise InputError(
            f"{len(vectors):,} vectors have {start:,} rows beside them; the input changed; run the command anew"
        )


VECTOR_WRITERS: dict[str, Callable[[Path, Vectors, Kept, About, Sequence[str]], None]] = {
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
    LANCE: _write_lance,
}
"""Functions that write vectors [n, dim] by the output's suffix, with what stands beside them and all columns' names."""
RECORD_SUFFIXES = (".jsonl", ".parquet")
