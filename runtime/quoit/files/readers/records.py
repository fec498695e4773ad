"""Define a record of a file of texts: its text, or why it has none, and its place in the file."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from quoit.errors import InputError, shown

STANDARD_INPUT = "-"


class Mark(Enum):
    """A value that is absent, or whose key occurs twice."""

    ABSENT = auto()
    REPEATED = auto()


@dataclass(frozen=True)
class Source:
    """A file of texts, and the options to read it.

    Attributes:
        path: path of the file, or `-` for standard input.
        kind: one of `quoit.files.readers.KINDS`.
        column: name of the text's column or key; `meta.text` is the key `text` of the object `meta`.
        delimiter: character between the fields of csv and tsv; empty for other kinds.
    """

    path: str
    kind: str
    column: str = "text"
    delimiter: str = ","

    @property
    def name(self) -> str:
        """Return the file's name for a message."""
        return "standard input" if self.path == STANDARD_INPUT else self.path

    def line(self, number: int) -> str:
        """Return a line's name for a message; the first line is 1."""
        return f"{self.name}, line {number}"


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        text: text of the record, or None if it has none.
        place: name of the file and of the line or row, for messages.
        lack: description of what the record has instead of a text, for messages.
        absent: True if the column itself is absent, and not only its value.
    """

    text: str | None
    place: str
    lack: str = ""
    absent: bool = False


@dataclass
class Skipped:
    """The records without a text that were left out.

    Attributes:
        rows: numbers of these records among all records, from 0.
        first: place of the first of these records.
    """

    rows: list[int] = field(default_factory=list)
    first: str = ""

    def add(self, row: int, place: str) -> None:
        """Add one record."""
        self.first = self.first or place
        self.rows.append(row)

    def describe(self) -> str:
        """Return the count in words; empty if no record was left out."""
        if not self.rows:
            return ""
        many = (
            "1 record without a text was" if len(self.rows) == 1 else f"{len(self.rows):,} records without a text were"
        )
        return f"{many} left out, the first at {self.first}"


def present(records: Iterable[Record], skipped: Skipped | None = None) -> Iterator[tuple[int, str]]:
    """Yield the number, from 0, and the text of each record that has a text.

    Args:
        records: all records.
        skipped: collects the records without a text; if None, the first such record is refused.

    Raises:
        InputError: a record has no text, and `skipped` is None.
    """
    for row, record in enumerate(records):
        if record.text is not None:
            yield row, record.text
        elif skipped is None:
            raise InputError(
                f"{record.place} has {record.lack}; correct it, name another with --column, or leave such records out "
                "with --skip-missing"
            )
        else:
            skipped.add(row, record.place)


def with_column(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records, then check that at least one had the column, since its name may be misspelt.

    Raises:
        InputError: there are records, and none of them has the column.
    """
    first: Record | None = None
    found = False
    for record in records:
        if record.absent:
            first = first or record
        else:
            found = True
        yield record
    if first is not None and not found:
        raise InputError(
            f"{first.place} has {first.lack}; no other record has it either; name one of them with --column"
        )


def object_record(value: object, source: Source, place: str) -> Record:
    """Return the record of a JSON value: a string, an object that has the text under the column's name, or null.

    Raises:
        InputError: the value is of another kind, the object has the key more than once, or the text cannot be encoded.
    """
    if isinstance(value, dict):
        found = value_at(value, source.column)
        if found is Mark.REPEATED:
            raise InputError(f"{place} has the key {source.column!r} more than once; remove all but one")
        if found is Mark.ABSENT:
            lack = f"no key {source.column!r}; its keys are {shown(names_in(value))}"
            return Record(None, place, lack, absent=True)
        value = found
    return text_record(value, source, place)


def text_record(value: object, source: Source, place: str) -> Record:
    """Return the record of a value of the text's column.

    Raises:
        InputError: the value is neither a string nor None, or UTF-8 cannot represent it.
    """
    if value is None:
        return Record(None, place, f"null in {source.column!r}")
    if not isinstance(value, str):
        raise InputError(
            f"{place} has no text in {source.column!r}, but {shown(value)}; name another with --column, or correct it"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place} has the lone surrogate {value[error.start]!a} at position {error.start} of its text; correct "
            "the escape"
        ) from error
    return Record(value, place)


def value_at(record: Mapping[str, Any], column: str) -> object:
    """Return the value under a name, or under a path of names with dots between them; a Mark if there is none."""
    if column in record:
        return record[column]
    head, dot, rest = column.partition(".")
    inner = record.get(head) if dot and head in record else Mark.ABSENT
    if isinstance(inner, dict):
        return value_at(inner, rest)
    return inner if inner is None or inner is Mark.REPEATED else Mark.ABSENT


def names_in(record: Mapping[str, Any]) -> list[str]:
    """Return the names in an object; for an object inside, the names in it instead, as `outer.inner`."""
    names: list[str] = []
    for name, value in record.items():
        names += [f"{name}.{inner}" for inner in value] if isinstance(value, dict) and value else [name]
    return names
