"""Define a record of a file of texts: its text and its place in the file, or why it has no text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from quoit.errors import InputError, brief, shown

STANDARD_INPUT = "-"
DOCUMENT_COLUMNS = ("text", "title", "file", "line", "page")
"""What can be kept beside a text of a document."""


class Mark(Enum):
    """A value that is absent, or whose key occurs twice."""

    ABSENT = object()
    REPEATED = object()  # noqa: PIE796  another one; JSON represents neither, so that they are never kept


@dataclass(frozen=True)
class Source:
    """A file of texts, and the options to read it.

    Attributes:
        path: path of the file, or `-` for standard input.
        kind: one of `quoit.files.readers.KINDS`.
        column: name of the text's column or key; `meta.text` is the key `text` of the object `meta`.
        delimiter: character between the fields of csv and tsv; empty for other kinds.
        keep: names of columns or keys whose values are kept beside the text; the first one holds ids if `ids` is True.
        ids: True if the first of `keep` must have a string or an integer in every record with a text.
    """

    path: str
    kind: str
    column: str = "text"
    delimiter: str = ","
    keep: tuple[str, ...] = ()
    ids: bool = False

    @property
    def name(self) -> str:
        """Return the file's name for a message."""
        return "standard input" if self.path == STANDARD_INPUT else self.path

    def line(self, number: int) -> str:
        """Return a line's name for a message; the first line is 1."""
        return f"{self.name}, line {number}"


class Part(NamedTuple):
    """A part of a document.

    Attributes:
        body: its text as it stands in the document, without the headings above it.
        title: the headings above it, the outermost first, with ": " between them.
        line: number of its first line, from 1; 0 if the document has no lines.
        page: number of its page, from 1; 0 if the document has no pages.
    """

    body: str
    title: str = ""
    line: int = 0
    page: int = 0


class Record(NamedTuple):
    """A text of a file.

    Attributes:
        text: the text.
        place: name of the file and of the line or row, for messages.
        kept: the values of `Source.keep`, as a JSON array; empty if there are none to keep.
        part: where the text stands in its document; None for a row with columns.
    """

    text: str
    place: str
    kept: bytes = b""
    part: "Part | None" = None


class Lack(NamedTuple):
    """A record of a file that has no text.

    Attributes:
        place: as in `Record`.
        lack: description of what the record has instead of a text, for messages.
        absent: True if the column itself is absent, and not only its value.
    """

    place: str
    lack: str
    absent: bool = False


Entry = Record | Lack


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


def present(entries: Iterable[Entry], skipped: Skipped | None = None) -> Iterator[tuple[int, Record]]:
    """Yield each record that has a text, with its number among all, from 0.

    Args:
        entries: all records.
        skipped: collects the records without a text; if None, the first such record is refused.

    Raises:
        InputError: a record has no text, and `skipped` is None.
    """
    for row, entry in enumerate(entries):
        if isinstance(entry, Record):
            yield row, entry
        elif skipped is None:
            raise InputError(
                f"{entry.place} has {entry.lack}; correct it, name another with --column, or leave such records out "
                "with --skip-missing"
            )
        else:
            skipped.add(row, entry.place)


def with_column(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the records, then check that at least one had the column, since its name may be misspelt.

    Raises:
        InputError: there are records, and none of them has the column.
    """
    first: Lack | None = None
    found = False
    for entry in entries:
        if isinstance(entry, Lack) and entry.absent:
            first = first or entry
        else:
            found = True
        yield entry
    if first is not None and not found:
        raise InputError(
            f"{first.place} has {first.lack}; no other record has it either; name one of them with --column"
        )


def object_record(value: object, source: Source, place: str) -> Entry:
    """Return the record of a JSON value: a string, an object that has the text under the column's name, or null.

    Raises:
        InputError: the value is of another kind, the object has the key or one to keep more than once, or a value
            cannot be encoded.
    """
    text = value
    if isinstance(value, dict):
        text = _value_of(value, source.column, place)
        if text is Mark.ABSENT:
            lack = f"no key {source.column!r}; its keys are {shown(names_in(value))}"
            return Lack(place, lack, absent=True)
    values = value if isinstance(value, dict) else {source.column: value}
    return text_record(text, source, place, [_value_of(values, name, place) for name in source.keep])


def text_record(value: object, source: Source, place: str, kept: Sequence[object] = ()) -> Entry:
    """Return the record of a value of the text's column, with the values that are kept beside it.

    Raises:
        InputError: the value is neither a string nor None, UTF-8 cannot represent it, or a kept value is wrong.
    """
    if value is None:
        return Lack(place, f"null in {source.column!r}")
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
    return Record(value, place, _encoded(kept, source, place) if source.keep else b"")


def part_record(source: Source, text: str, part: Part) -> Record:
    """Return the record of a part of a document."""
    place = source.line(part.line) if part.line else f"{source.name}, page {part.page}"
    if not source.keep:
        return Record(text, place, part=part)
    values: dict[str, object] = {"text": text, "title": part.title or None, "file": encodable(source.path)}
    values |= {"line": part.line or None, "page": part.page or None}
    return Record(text, place, _encoded([values[name] for name in source.keep], source, place), part)


def encodable(file: str) -> str:
    """Return a file's name, with bytes that are not UTF-8 replaced."""
    return file.encode(errors="surrogateescape").decode(errors="replace")


def below_headings(source: Source, headings: Sequence[str], body: str, line: int) -> Record:
    """Return the record of a text on one line after the headings above it, so that a search for a heading finds it."""
    title = " ".join(": ".join(headings).split())
    text = " ".join(": ".join([*headings, body]).split())
    return part_record(source, text, Part(body, title, line))


def check_document_columns(source: Source) -> None:
    """Refuse columns that a document does not have.

    Raises:
        InputError: one of the columns to keep is none of DOCUMENT_COLUMNS, or ids are wanted.
    """
    wrong = next((name for name in source.keep if name not in DOCUMENT_COLUMNS), None)
    if source.ids:
        raise InputError(f"{source.name} is {source.kind}, which has no ids; leave --id out, and rows are numbered")
    if wrong is not None:
        raise InputError(
            f"{source.name} is {source.kind}, which has no column {wrong!r}; keep some of {', '.join(DOCUMENT_COLUMNS)}"
        )


def is_id(value: object) -> bool:
    """Return whether a value can be an id: a string or an integer."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def _encoded(kept: Sequence[object], source: Source, place: str) -> bytes:
    """Return the kept values as a JSON array; an absent key is null.

    Raises:
        InputError: there is no id where one is wanted, or JSON cannot represent a value.
    """
    if source.ids and not is_id(kept[0]):
        found = "none" if kept[0] in (None, Mark.ABSENT) else shown(kept[0])
        raise InputError(
            f"{place} has no id in {source.keep[0]!r}, but {found}; an id is a string or an integer; name another "
            "with --id"
        )
    values = [None if value is Mark.ABSENT else value for value in kept]
    try:
        return msgspec.json.encode(values)
    except (ValueError, OverflowError, TypeError, RecursionError) as error:  # also UnicodeEncodeError
        raise InputError(
            f"{place} has a value among {', '.join(source.keep)} that cannot be kept: {brief(error)}; correct it, or "
            "leave it out of --keep"
        ) from error


def _value_of(values: Mapping[str, Any], name: str, place: str) -> object:
    """Return the value under a name or a path of names; Mark.ABSENT if there is none.

    Raises:
        InputError: the name occurs more than once.
    """
    found = value_at(values, name)
    if found is Mark.REPEATED:
        raise InputError(f"{place} has the key {name!r} more than once; remove all but one")
    return found


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
