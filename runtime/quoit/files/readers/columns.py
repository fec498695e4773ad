"""Read parquet files: a text in one column of each row, one batch of rows at a time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from quoit.errors import InputError, brief, shown
from quoit.files.packages import pyarrow_parquet
from quoit.files.readers.records import STANDARD_INPUT, Entry, Source, text_record, value_at
from quoit.files.readers.streams import GZIP_SUFFIX


def check_parquet(source: Source) -> None:
    """Refuse a source that cannot be read as parquet, before anything is read.

    Raises:
        InputError: the source is standard input, a pipe or a gzip file, or pyarrow is not installed.
    """
    if source.path == STANDARD_INPUT or not Path(source.path).is_file():
        raise InputError(f"parquet cannot be read from {source.name}; name a file")
    if source.path.lower().endswith(GZIP_SUFFIX):
        raise InputError(f"{source.path} is a gzip file, and parquet is read in places; unpack it with gunzip")
    pyarrow_parquet()


def read_parquet(source: Source) -> Iterator[Entry]:
    """Yield a record for each row.

    Raises:
        InputError: the file is damaged, or does not have the column exactly once.
    """
    parquet = pyarrow_parquet()
    try:
        file = parquet.ParquetFile(source.path)
        names = _names(file.schema_arrow)
    except Exception as error:  # pyarrow raises errors of many types
        raise InputError(f"{source.name} is no readable parquet file: {brief(error)}; check it") from error
    with file:
        _check_column(source, names)
        plain = replace(source, keep=(), ids=False)  # `quoit.files.kept` reads those
        for row, value in enumerate(_values(file, source), 1):
            yield text_record(value, plain, f"{source.name}, row {row}")


def _names(schema: Any) -> list[str]:
    """Return the names of the columns; for a struct, also the names of its fields."""
    from pyarrow import types

    names: list[str] = []
    for column in schema:
        names.append(column.name)
        if types.is_struct(column.type):
            names += [f"{column.name}.{column.type.field(index).name}" for index in range(column.type.num_fields)]
    return names


def _check_column(source: Source, names: list[str]) -> None:
    count = names.count(source.column)
    if not count:
        raise InputError(f"{source.name} has no column {source.column!r}, but {shown(names)}; name one with --column")
    if count > 1:
        raise InputError(f"{source.name} has {count} columns {source.column!r}; rename all but one")


def _values(file: Any, source: Source) -> Iterator[object]:
    """Yield the value of the text's column in each row."""
    row = 0
    batches = file.iter_batches(columns=[source.column])
    while True:
        try:
            batch = next(batches, None)
            values = [] if batch is None else batch.column(0).to_pylist()
        except Exception as error:  # as above; also texts that are not UTF-8, and dates outside Python's range
            raise InputError(f"{source.name} cannot be read after row {row}: {brief(error)}; check it") from error
        if batch is None:
            return
        row += len(values)
        name = batch.schema.names[0]
        yield from values if name == source.column else (value_at({name: value}, source.column) for value in values)
