"""Text files in, for the command line: one text at a time, whatever the size of the file.

This module does not know what the texts are for.
"""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from quoit.errors import InputError, brief, shown
from quoit.writers import pyarrow_parquet

STANDARD_INPUT = "-"
CSV_FIELD_LIMIT = 1 << 30
MARKDOWN_TEXTS = ("inline", "fence", "code_block")
MARKDOWN_PARTS = ("heading_open", "heading_close", "thead_open", "thead_close", "tbody_open", "tbody_close")


def read_texts(source: str, *, kind: str | None = None, column: str = "text") -> Iterator[str]:
    """The texts of a file, in order.

    Args:
        source: a path, or `-` for standard input.
        kind: `txt` (a text per line), `jsonl` (a string, or an object with `column`, per line), `csv` or
            `parquet` (the column `column`), `md` (a text per paragraph, list item, table row or code block, behind
            its headings); by default the file's suffix decides, `txt` for standard input.
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
    try:
        if column not in (rows.fieldnames or []):
            raise InputError(f"{source} has no column {column!r}, but {shown(rows.fieldnames)}; name one with --column")
        for row in rows:
            yield _text_of(row, f"{source}, line {rows.line_num}", column)
    except csv.Error as error:
        raise InputError(f"{source}, line {rows.reader.line_num} is no CSV: {error}; correct it") from error


def _read_markdown(lines: IO[str], source: str, column: str) -> Iterator[str]:  # noqa: ARG001
    headings: dict[str, str] = {}
    cells: list[str] = []
    inside = ""
    for token in markdown_parser().parse(lines.read()):
        if token.type in MARKDOWN_PARTS:
            inside = token.tag if token.nesting > 0 else ""
        elif token.type == "tr_close" and inside == "tbody":
            yield _below(headings, " | ".join(filter(None, cells)))
            cells = []
        elif token.type not in MARKDOWN_TEXTS or not token.content.strip() or inside == "thead":
            continue
        elif inside == "tbody":
            cells.append(token.content)
        elif inside:
            headings = {tag: text for tag, text in headings.items() if tag < inside} | {inside: token.content}
        else:
            yield _below(headings, token.content.strip())


def _below(headings: dict[str, str], text: str) -> str:
    """A text on one line behind the headings that it stands under, so that it can be found by them."""
    return " ".join(": ".join([*headings.values(), text]).split())


def _read_parquet(source: str, column: str) -> Iterator[str]:
    parquet = pyarrow_parquet()
    try:
        file = parquet.ParquetFile(source)
        names = file.schema_arrow.names
    except Exception as error:  # pyarrow's errors share no base with a name worth importing
        raise InputError(f"{source} is no readable parquet file: {brief(error)}; check it") from error
    if column not in names:
        raise InputError(f"{source} has no column {column!r}, but {shown(names)}; name one with --column")
    row = 0
    batches = file.iter_batches(columns=[column])
    while True:
        try:
            batch = next(batches, None)
            values = None if batch is None else batch.column(0).to_pylist()
        except Exception as error:  # as above; and texts that are no UTF-8, dates beyond Python's calendar
            raise InputError(f"{source} cannot be read after row {row}: {brief(error)}; check it") from error
        if values is None:
            return
        for value in values:
            row += 1
            yield _text_of(value, f"{source}, row {row}", column)


def _text_of(found: object, where: str, column: str) -> str:
    if isinstance(found, dict) and column in found:
        found = found[column]
    if not isinstance(found, str):
        raise InputError(
            f"{where} has no text in {column!r}, but {shown(found)}; name another with --column, or correct it"
        )
    return found


def markdown_parser() -> Any:
    """A CommonMark parser with tables.

    Raises:
        InputError: markdown-it-py is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise InputError(
            f"Markdown needs markdown-it-py ({error}); `pip install 'quoit[markdown]'`, or use --input-format txt"
        ) from error
    return MarkdownIt("commonmark").enable("table")


LINE_READERS: dict[str, Callable[[IO[str], str, str], Iterator[str]]] = {
    "txt": _read_txt,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "md": _read_markdown,
}
KINDS = (*LINE_READERS, "parquet")
