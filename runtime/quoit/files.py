"""Text files in, vector files out, for the command line.

Readers stream: one text at a time, whatever the size of the file. Writers write beside the destination and
rename at the end, so that an interrupted run leaves no file that looks whole. This module does not know how
texts become vectors.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import numpy as np

from quoit.errors import InputError
from quoit.pooling import Vectors

STANDARD_INPUT = "-"
CSV_FIELD_LIMIT = 1 << 30


def read_texts(source: str, *, kind: str | None = None, column: str = "text") -> Iterator[str]:
    """The texts of a file, in order.

    Args:
        source: a path, or `-` for standard input.
        kind: `txt` (a text per line), `jsonl` (a string, or an object with `column`, per line), `csv` or
            `parquet` (the column `column`); by default the file's suffix decides, `txt` for standard input.
        column: the name of the text column.

    Raises:
        InputError: the file is absent, of an unknown kind, or a record has no text; its line is named.
    """
    kind = kind or ("txt" if source == STANDARD_INPUT else Path(source).suffix.lstrip(".").lower())
    if kind not in KINDS:
        raise InputError(f"{source} has the unknown kind {kind!r}; name one of {', '.join(KINDS)} with --input-format")
    if source != STANDARD_INPUT and not Path(source).is_file():
        raise InputError(f"{source} is no file; check the path, or use - for standard input")
    if kind != "parquet":
        return _read_lines(source, kind, column)
    if source == STANDARD_INPUT:
        raise InputError("parquet cannot be read from standard input; name a file")
    return _read_parquet(source, column)


def _read_lines(source: str, kind: str, column: str) -> Iterator[str]:
    # A lone carriage return is part of a text; the csv module wants to see line ends as they are.
    with _open_text(source, newline="" if kind == "csv" else "\n") as lines:
        try:
            yield from LINE_READERS[kind](lines, source, column)
        except UnicodeDecodeError as error:
            raise InputError(f"{source} is not UTF-8: {error}; convert it first") from error


@contextmanager
def _open_text(source: str, newline: str) -> Iterator[IO[str]]:
    """Text without its byte order mark; `newline` as in `open`."""
    if source == STANDARD_INPUT:
        yield io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline=newline)
    else:
        with Path(source).open(encoding="utf-8-sig", newline=newline) as file:
            yield file


def _read_txt(lines: IO[str], source: str, column: str) -> Iterator[str]:  # noqa: ARG001
    for line in lines:
        yield line.removesuffix("\n").removesuffix("\r")


def _read_jsonl(lines: IO[str], source: str, column: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}, line {number} is not JSON: {error}; correct it") from error
        yield _text_of(found, f"{source}, line {number}", column)


def _read_csv(lines: IO[str], source: str, column: str) -> Iterator[str]:
    csv.field_size_limit(CSV_FIELD_LIMIT)
    rows = csv.DictReader(lines)
    if column not in (rows.fieldnames or []):
        raise InputError(f"{source} has no column {column!r}, but {rows.fieldnames}; name one with --column")
    try:
        for row in rows:
            yield _text_of(row, f"{source}, line {rows.line_num}", column)
    except csv.Error as error:
        raise InputError(f"{source}, line {rows.line_num} is no CSV: {error}; correct it") from error


def _read_parquet(source: str, column: str) -> Iterator[str]:
    parquet = _pyarrow_parquet()
    try:
        file = parquet.ParquetFile(source)
    except Exception as error:  # pyarrow's errors share no base with a name worth importing
        raise InputError(f"{source} is no readable parquet file: {error}; check it") from error
    if column not in file.schema_arrow.names:
        raise InputError(f"{source} has no column {column!r}, but {file.schema_arrow.names}; name one with --column")
    row = 0
    batches = file.iter_batches(columns=[column])
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:  # as above
            raise InputError(f"{source} is damaged after row {row}: {error}; check it") from error
        if batch is None:
            return
        for value in batch.column(0).to_pylist():
            row += 1
            yield _text_of(value, f"{source}, row {row}", column)


def _text_of(found: object, where: str, column: str) -> str:
    if isinstance(found, dict) and column in found:
        found = found[column]
    if not isinstance(found, str):
        raise InputError(
            f"{where} has no text in {column!r}, but {found!r:.80}; name another with --column, or correct it"
        )
    return found


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"parquet needs pyarrow ({error}); `pip install 'quoit[parquet]'`, or use another format"
        ) from error
    return parquet


LINE_READERS: dict[str, Callable[[IO[str], str, str], Iterator[str]]] = {
    "txt": _read_txt,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
}
KINDS = (*LINE_READERS, "parquet")


class Sink(Protocol):
    """Takes vectors a window at a time."""

    def write(self, vectors: Vectors) -> None:
        """Appends rows [n, dim]."""

    def close(self) -> None:
        """Completes the file."""


class VectorWriter:
    """Writes vectors to `destination`: `.npy` [n, dim], `.parquet` or `.jsonl` with columns id and vector.

    Used as a context: leaving it normally gives the file its name, leaving it by an error removes the draft.
    """

    def __init__(self, destination: Path) -> None:
        if destination.suffix not in SINKS:
            raise InputError(
                f"{destination} has the unknown suffix {destination.suffix!r}; end it in one of {', '.join(SINKS)}"
            )
        if destination.is_dir():
            raise InputError(f"{destination} is a folder; name a file")
        if not destination.parent.is_dir() or not os.access(destination.parent, os.W_OK):
            raise InputError(f"{destination.parent} is no folder that can be written; make it, or name another")
        self.destination = destination
        self.draft = destination.with_name(f".{destination.name}.{os.getpid()}.part")
        self.sink: Sink = SINKS[destination.suffix](self.draft)

    def __enter__(self) -> Self:
        return self

    def write(self, vectors: Vectors) -> None:
        """Appends rows [n, dim]."""
        self.sink.write(vectors)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.sink.close()
            if kind is None:
                self.draft.replace(self.destination)
        finally:
            self.draft.unlink(missing_ok=True)


class NpySink:
    """A .npy file whose row count is written last.

    numpy pads the header so that the first dimension can grow in place (`numpy.lib.format`,
    GROWTH_AXIS_MAX_DIGITS).
    """

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.rows = 0
        self.like = np.empty((0, 0), np.float32)

    def write(self, vectors: Vectors) -> None:
        """Appends rows."""
        if self.rows == 0:
            self.like = vectors[:0]
            self._write_header()
        vectors.tofile(self.file)
        self.rows += len(vectors)

    def close(self) -> None:
        """Writes the header with the final row count."""
        self._write_header()
        self.file.close()

    def _write_header(self) -> None:
        self.file.seek(0)
        header = np.lib.format.header_data_from_array_1_0(self.like) | {"shape": (self.rows, self.like.shape[1])}
        np.lib.format.write_array_header_1_0(self.file, header)


class JsonlSink:
    """One object per line: `{"id": 0, "vector": [...]}`."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.rows = 0

    def write(self, vectors: Vectors) -> None:
        """Appends lines."""
        for vector in vectors:
            self.file.write(json.dumps({"id": self.rows, "vector": vector.tolist()}) + "\n")
            self.rows += 1

    def close(self) -> None:
        """Flushes the file."""
        self.file.close()


class ParquetSink:
    """Columns id (int64) and vector (fixed-size list)."""

    def __init__(self, path: Path) -> None:
        self.parquet = _pyarrow_parquet()
        self.path = path
        self.writer: Any = None
        self.rows = 0

    def write(self, vectors: Vectors) -> None:
        """Appends a row group."""
        import pyarrow

        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
        ids = pyarrow.array(range(self.rows, self.rows + len(vectors)), pyarrow.int64())
        table = pyarrow.table({"id": ids, "vector": values})
        if self.writer is None:
            self.writer = self.parquet.ParquetWriter(self.path, table.schema)
        self.writer.write_table(table)
        self.rows += len(vectors)

    def close(self) -> None:
        """Writes the footer."""
        if self.writer is None:
            self.write(np.empty((0, 1), np.float32))
        self.writer.close()


SINKS: dict[str, Callable[[Path], Sink]] = {".npy": NpySink, ".parquet": ParquetSink, ".jsonl": JsonlSink}
