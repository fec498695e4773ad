"""Read csv and tsv files: a header, then a text in one field of each row.

Fields with a delimiter, a quote or a line end are in double quotes, and quotes inside are doubled (RFC 4180).
"""

import csv
from collections.abc import Iterator, Sequence

from quoit.errors import InputError, brief, shown
from quoit.files.readers.records import Entry, Lack, Source, text_record
from quoit.files.readers.streams import text_lines

FIELD_CHARACTERS = 1 << 27
"""Maximum number of characters of a field; a quote that is never closed is noticed there at the latest."""

DELIMITERS = {"csv": ",", "tsv": "\t"}
COMMON_DELIMITERS = (",", ";", "\t", "|")
NO_DELIMITERS = '"\r\n'
FAULTS = {
    "unexpected end of data": "a quote that is never closed; close it, or double a quote that belongs to a text",
    "new-line character seen": r"a carriage return outside quotes; end lines with \n or \r\n",
    "field larger than": "a field that is too long, or a quote that is never closed; correct it",
}
"""Descriptions of faults, by the beginning of the csv module's own message."""


def delimiter_of(kind: str, given: str | None) -> str:
    r"""Return the delimiter of a kind, or the one given; `\t` may be written as two characters.

    Raises:
        InputError: the delimiter is not one character, is a quote or a line end, or the kind has no delimiter.
    """
    if given is None:
        return DELIMITERS.get(kind, "")
    if kind not in DELIMITERS:
        raise InputError(f"--delimiter {given!r} is for csv and tsv, not for {kind}; leave it out")
    delimiter = "\t" if given == r"\t" else given
    if len(delimiter) != 1 or delimiter in NO_DELIMITERS:
        raise InputError(f"--delimiter {shown(given)} must be one character other than a quote; use one such as ';'")
    return delimiter


def read_delimited(source: Source) -> Iterator[Entry]:
    """Yield a record for each row that is not blank; a row that ends before the column has no text.

    Raises:
        InputError: the header does not have the column and those to keep exactly once, a row has more fields than the
            header, or quotes are wrong.
    """
    rows = _rows(source)
    start, header = next(rows, (1, []))
    column = _position(source, start, header, source.column, "--column")
    options = ["--id" if source.ids and not index else "--keep" for index in range(len(source.keep))]
    places = [_position(source, start, header, *pair) for pair in zip(source.keep, options, strict=True)]
    for line, row in rows:
        place = source.line(line)
        if len(row) > len(header):
            raise InputError(
                f"{place} has {len(row)} fields, and the header has {len(header)}; put a text with "
                f"{source.delimiter!r} in quotes, or name another --delimiter"
            )
        if len(row) <= column:
            yield Lack(place, f"no text in {source.column!r}, but {len(row)} of {len(header)} fields")
        else:
            kept = [row[position] if position < len(row) else None for position in places]
            yield text_record(row[column], source, place, kept)


def _rows(source: Source) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of the line where it begins."""
    csv.field_size_limit(FIELD_CHARACTERS)
    reader = csv.reader(text_lines(source), delimiter=source.delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{source.line(line)} has {_fault(str(error))}") from error
        if row is None:
            return
        if row:
            yield line, row


def _fault(message: str) -> str:
    words = next((words for beginning, words in FAULTS.items() if message.startswith(beginning)), None)
    return words or f"wrong quotes: {brief(message)}; put the whole field in quotes, and double those inside"


def _position(source: Source, line: int, header: Sequence[str], name: str, option: str) -> int:
    """Return the position of a column in a row."""
    if name not in header:
        raise InputError(
            f"{source.line(line)} has no column {name!r}, but {shown(header)}; {_remedy(source, header, option)}"
        )
    if header.count(name) > 1:
        raise InputError(
            f"{source.line(line)} names the column {name!r} {header.count(name)} times; rename all but one"
        )
    return header.index(name)


def _remedy(source: Source, header: Sequence[str], option: str) -> str:
    """Return advice for a missing column; a header with one field probably has another delimiter."""
    others = [mark for mark in COMMON_DELIMITERS if mark != source.delimiter and len(header) == 1 and mark in header[0]]
    return f"use --delimiter {others[0]!r}" if others else f"name one with {option}"
