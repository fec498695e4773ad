"""Keep values of the input's columns beside the vectors, from the reader to the output.

Values of text formats are JSON arrays, one line a row, in a file of the draft; their types in `.parquet` and `.lance`
follow from all of a column's values. Columns of parquet files are read again at the end, so they keep their own types.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from quoit.errors import InputError, brief, shown
from quoit.files.packages import ROWS_AT_A_TIME, pyarrow_parquet
from quoit.files.readers.records import Record
from quoit.text.text_hash import TextHash

ID = "id"
"""The output's column of ids."""
VECTOR = "vector"
"""The output's column of vectors, unless another name is given."""
EXACT = 1 << 53
"""The largest integer up to which a float holds every integer."""
INT64 = 1 << 63
"""The first integer that a column of 64 bits cannot hold."""


@dataclass(frozen=True)
class OutputColumns:
    """The columns of an output.

    Attributes:
        id: the input's column that has the ids; None for numbers of rows from 0.
        keep: the input's columns whose values are kept, under their own names.
        vector: name of the column of vectors.
    """

    id: str | None = None
    keep: tuple[str, ...] = ()
    vector: str = VECTOR

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            InputError: a name is empty, or the output would have it twice.
        """
        names = [ID, *self.keep, self.vector]
        if not all(names) or self.id == "":
            raise InputError("a column's name is empty; name a column with --id, --keep and --vector-column")
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            advice = "give it as --id" if repeated == ID else "name each once, and the vectors with --vector-column"
            raise InputError(f"the output would have two columns {repeated!r}; {advice}")

    @property
    def read(self) -> tuple[str, ...]:
        """Return the names of the input's columns to read, the one of ids first."""
        return self.keep if self.id is None else (self.id, *self.keep)

    @property
    def written(self) -> tuple[str, ...]:
        """Return the names that those columns have in the output."""
        return self.keep if self.id is None else (ID, *self.keep)


class Kept(Protocol):
    """The kept values of an output's rows; all of them have the order of the rows."""

    def values(self) -> Iterator[Sequence[object]]:
        """Yield each row's values."""

    def tables(self) -> tuple[Any, Iterator[Any]]:
        """Return the schema, and the tables of pyarrow with up to ROWS_AT_A_TIME rows each."""


class KeptLines:
    """Kept values of a run in a file that grows at its end, one JSON array a line.

    Attributes:
        path: the file.
        names: names of the values, as the output has them.
        is_whole: False if the file has fewer lines than the number it was opened with.
        waiting: values of the records that were read and have no vector yet.
    """

    def __init__(self, path: Path, names: Sequence[str], rows: int) -> None:
        """Open the file, and cut it after the first `rows` lines; it is made new if `rows` is 0.

        Raises:
            OSError: the file cannot be written.
        """
        self.path = path
        self.names = tuple(names)
        self.waiting: deque[bytes] = deque()
        self._file: IO[bytes] = path.open("r+b" if rows and path.exists() else "w+b")
        self.is_whole = sum(1 for _ in islice(iter(self._file.readline, b""), rows)) == rows
        self._file.truncate(self._file.tell())

    def follow(self, records: Iterable[Record], hashed: TextHash) -> Iterator[str]:
        """Yield the records' texts, hash their values, and let those wait for `append`."""
        for record in records:
            hashed.add(record.kept)
            self.waiting.append(record.kept)
            yield record.text

    def append(self, rows: int) -> None:
        """Write the values of the first `rows` records that wait; they are on the disk when this returns.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        self._file.writelines(self.waiting.popleft() + b"\n" for _ in range(rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. It is no error if a full disk does not take its last bytes, since they do not count."""
        with suppress(OSError):
            self._file.close()

    def values(self) -> Iterator[list[object]]:
        """Yield each row's values."""
        with self.path.open("rb") as lines:
            yield from map(msgspec.json.decode, lines)

    def tables(self) -> tuple[Any, Iterator[Any]]:
        """Return the schema and the tables; a column has the type of all its values.

        Integers with floats become floats; ids of two types become strings; objects, lists and other mixtures become
        their JSON.
        """
        import pyarrow

        kinds: list[set[type]] = [set() for _ in self.names]
        for row in self.values():
            for seen, value in zip(kinds, row, strict=True):
                seen.add(_type_of(value))
        types = [column_type(seen) for seen in kinds]
        converters = [_converter(kind, name) for kind, name in zip(types, self.names, strict=True)]
        schema = pyarrow.schema(list(zip(self.names, map(_arrow_type, types), strict=True)))
        return schema, self._tables(schema, converters)

    def _tables(self, schema: Any, converters: Sequence[Callable[[object], object]]) -> Iterator[Any]:
        import pyarrow

        rows = self.values()
        while some := list(islice(rows, ROWS_AT_A_TIME)):
            columns = [
                pyarrow.array([None if value is None else convert(value) for value in column], field.type)
                for column, convert, field in zip(zip(*some, strict=True), converters, schema, strict=True)
            ]
            yield pyarrow.Table.from_arrays(columns, schema=schema)


def _type_of(value: object) -> type:
    """Return a value's type; list, which stands for JSON, for integers beyond 64 bits, and bytes beyond a float's."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT:
        return bytes if -INT64 <= value < INT64 else list
    return type(value)


def column_type(seen: set[type]) -> type:
    """Return the type of a column whose values have these types: bool, int, float or str; list stands for JSON.

    Bytes stand for integers that a float cannot hold exactly.
    """
    found = seen - {type(None)}
    if found in ({bytes}, {int, bytes}):
        return int
    if found == {int, float}:
        return float
    if len(found) == 1 and found <= {bool, int, float, str}:
        return next(iter(found))
    return list if found else str


def _converter(kind: type, name: str) -> Callable[[object], object]:
    """Return the function that gives values other than None a column's type."""
    if kind is list:
        return _id_text if name == ID else _json_text
    return float if kind is float else lambda value: value  # type: ignore[return-value]


def _id_text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _arrow_type(kind: type) -> Any:
    import pyarrow

    types = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    return types.get(kind, pyarrow.string())


class KeptColumns:
    """Columns of parquet files, which are read again when the output is written.

    Attributes:
        files: the files, in the order of the rows.
        columns: the columns of the output.
        left_out: numbers of the rows that the output does not have, ascending.
    """

    def __init__(self, files: Sequence[str], columns: OutputColumns, *, as_json: bool = False) -> None:
        """Check that every file has the columns, in types that agree, and that ids are there.

        Args:
            files: the files.
            columns: the columns of the output.
            as_json: True to check also that JSON can represent their values.

        Raises:
            InputError: a file has no such column, or another type of it, or a row without an id.
        """
        self.files = tuple(files)
        self.columns = columns
        self.left_out: Sequence[int] = ()
        self.schema = self._common_schema()
        if columns.id is not None:
            self._check_ids(columns.id)
        self._readers = [json_values(field, files[0]) for field in self.schema] if as_json else []
        self._states = self._read_states()

    def values(self) -> Iterator[Sequence[object]]:
        """Yield each row's values, as JSON represents them.

        Raises:
            InputError: a file has changed, or a value cannot be represented.
        """
        for table in self.tables()[1]:
            try:
                columns = [read(column) for read, column in zip(self._readers, table.columns, strict=True)]
            except Exception as error:  # a date beyond the year 9999, or bytes that are not UTF-8
                raise InputError(
                    f"{', '.join(self.files)} has a value that JSON cannot represent: {brief(error)}; write .parquet "
                    "with --restart, or leave the column out of --keep"
                ) from error
            yield from zip(*columns, strict=True)

    def tables(self) -> tuple[Any, Iterator[Any]]:
        """Return the schema and the tables.

        Raises:
            InputError: a file has changed since the run began.
        """
        return self.schema, self._tables()

    def _tables(self) -> Iterator[Any]:
        import pyarrow

        if self._read_states() != self._states:
            raise InputError(f"{', '.join(self.files)} changed while the texts were embedded; run the command anew")
        row, parquet = 0, pyarrow_parquet()
        for file in self.files:
            with parquet.ParquetFile(file) as opened:
                for batch in opened.iter_batches(ROWS_AT_A_TIME, columns=list(self.columns.read)):
                    wanted = np.isin(np.arange(row, row + len(batch)), self.left_out, invert=True)
                    row += len(batch)
                    table = pyarrow.Table.from_batches([batch]).select(list(self.columns.read))
                    table = table.rename_columns(list(self.columns.written)).cast(self.schema)
                    yield table.filter(pyarrow.array(wanted))

    def _common_schema(self) -> Any:
        import pyarrow

        schemas = []
        for file in self.files:
            schema = pyarrow_parquet().read_schema(file)
            names = schema.names
            missing = next((name for name in self.columns.read if names.count(name) != 1), None)
            if missing is not None:
                many = f"{names.count(missing)} columns" if missing in names else "no column"
                raise InputError(f"{file} has {many} {missing!r}, but {shown(names)}; name others with --keep and --id")
            fields = [schema.field(name).with_name(new) for name, new in self._names()]
            fields = [pyarrow.field(field.name, _plain_type(field.type)) for field in fields]
            schemas.append(pyarrow.schema(fields))
        try:
            return pyarrow.unify_schemas(schemas)
        except pyarrow.ArrowException as error:
            raise InputError(
                f"the files have columns of different types: {brief(error)}; embed them one by one, or leave the "
                "column out of --keep"
            ) from error

    def _names(self) -> Iterator[tuple[str, str]]:
        return zip(self.columns.read, self.columns.written, strict=True)

    def _check_ids(self, name: str) -> None:
        from pyarrow import types

        kind = self.schema.field(ID).type
        if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
            raise InputError(
                f"the column {name!r} has values of type {kind}, and an id is a string or an integer; name another "
                "with --id"
            )
        for file in self.files:
            with pyarrow_parquet().ParquetFile(file) as opened:
                row = 0
                for batch in opened.iter_batches(columns=[name]):
                    nulls = batch.column(0).is_null().to_numpy(zero_copy_only=False)
                    if nulls.any():
                        number = row + int(nulls.argmax()) + 1
                        raise InputError(f"{file}, row {number} has no id in {name!r}; name another column with --id")
                    row += len(batch)

    def _read_states(self) -> list[tuple[int, int]]:
        states = [Path(file).stat() for file in self.files]
        return [(state.st_size, state.st_mtime_ns) for state in states]


def _plain_type(kind: Any) -> Any:
    """Return a type as it is written: dictionaries become their values, and views the type that they are views of."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_string_view(kind):
        return pyarrow.string()
    return pyarrow.binary() if types.is_binary_view(kind) else kind


def json_values(field: Any, name: str) -> Callable[[Any], list[Any]]:
    """Return the function that makes Python values for JSON of a column.

    Numbers, strings, and lists and objects of these stay as they are; bytes become base64; dates, times and decimals
    become strings, as Arrow writes them.

    Raises:
        InputError: the column has dates or the like within lists or objects.
    """
    from pyarrow import types

    kind = field.type
    if _is_json(kind) or types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return lambda column: list(column.to_pylist())
    if types.is_nested(kind):
        raise InputError(
            f"{name} has the column {field.name!r} of type {kind}, which JSON cannot represent; write .parquet, or "
            "leave it out of --keep"
        )
    return lambda column: list(column.cast("string").to_pylist())


def _is_json(kind: Any) -> bool:
    """Return whether JSON represents all values of a type."""
    from pyarrow import types

    if types.is_struct(kind):
        return all(_is_json(kind.field(index).type) for index in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_json(kind.value_type)
    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(numbers or types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind))


class RowNumbers:
    """The numbers of the rows as ids, beside kept values if there are any.

    Attributes:
        numbers: the number of each row among all records of the input, [n].
        kept: the kept values, if there are any.
    """

    def __init__(self, numbers: NDArray[np.int64], kept: Kept | None) -> None:
        """Take the numbers and the values."""
        self.numbers, self.kept = numbers, kept

    def values(self) -> Iterator[Sequence[object]]:
        """Yield each row's number and values."""
        kept: Iterable[Sequence[object]] = ((),) * len(self.numbers) if self.kept is None else self.kept.values()
        for number, values in zip(self.numbers, kept, strict=True):
            yield int(number), *values

    def tables(self) -> tuple[Any, Iterator[Any]]:
        """Return the schema and the tables."""
        import pyarrow

        field = pyarrow.field(ID, pyarrow.int64())
        if self.kept is None:
            schema = pyarrow.schema([field])
            starts = range(0, len(self.numbers), ROWS_AT_A_TIME)
            parts = (self.numbers[start : start + ROWS_AT_A_TIME] for start in starts)
            return schema, (pyarrow.Table.from_arrays([pyarrow.array(part)], schema=schema) for part in parts)
        schema, tables = self.kept.tables()
        return schema.insert(0, field), self._numbered(field, tables)

    def _numbered(self, field: Any, tables: Iterator[Any]) -> Iterator[Any]:
        import pyarrow

        start = 0
        for table in tables:
            numbers = self.numbers[start : start + table.num_rows]
            start += table.num_rows
            yield table.add_column(0, field, pyarrow.array(numbers, field.type))
