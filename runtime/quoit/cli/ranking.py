"""Show a ranking of texts as a table, and write it to a file; the commands that rank share this."""

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quoit.cli.inputs import Item
from quoit.cli.options import add_input, add_model, check_argument
from quoit.cli.process import show, tell
from quoit.errors import InputError
from quoit.files.readers import Record
from quoit.files.readers.records import encodable
from quoit.files.writers import RECORD_SUFFIXES, check_destination, write_records

COSINE, P_YES, LOGIT = "cosine", "p_yes", "logit"
SHOWN = 10
SHOWN_CHARACTERS = 100
PASSAGE_LINES = 4
BEGINNING = PASSAGE_LINES + 1
"""How many lines of a passage are looked at, to tell whether it goes on."""
WIDTH, MIN_WIDTH = 120, 40
INDENT = " " * 6


def add_ranking(parser: argparse.ArgumentParser, variable: str, written: str = "all written") -> None:
    """Add the arguments of a command that ranks texts; the variable names its artifact."""
    add_input(parser)
    parser.add_argument("--instruction", help="the task, instead of the checkpoint's own")
    parser.add_argument("--top", type=int, help=f"how many (default: {SHOWN} shown, {written})")
    parser.add_argument("-o", "--output", type=Path, help="write the ranking to a .jsonl or .parquet file too")
    add_model(parser, variable)


@dataclass(frozen=True)
class Place:
    """A text in the ranking, with its scores by their names."""

    item: Item
    figures: dict[str, float]


def check(options: argparse.Namespace) -> None:
    """Refuse options whose result could not be shown or written, before any work is done.

    Raises:
        InputError: --top is below 1, the query or instruction is not text, or --output cannot be written.
    """
    check_argument("the query", options.query)
    check_argument("--instruction", options.instruction)
    if options.top is not None and options.top < 1:
        raise InputError(f"--top {options.top} shows nothing; use a number from 1 on")
    if options.output is not None:
        check_destination(options.output, RECORD_SUFFIXES)


def publish(
    places: Sequence[Place],
    names: Sequence[str],
    options: argparse.Namespace,
    *,
    several: bool,
    documents: bool = False,
) -> None:
    """Print the first texts of a ranking with the named scores, and write all of it to --output.

    Args:
        places: the ranking, best first.
        names: names of the scores.
        options: options of the command.
        several: True to name each text's file.
        documents: True to name the lines and pages of documents, and to print their passages below.
    """
    place_names = ["file"] if documents else [*(["file"] if several else []), "item", "text"]
    show("  ".join(["rank", *(f"{name:>7}" for name in names), *place_names]))
    for rank, place in enumerate(places[: options.top or SHOWN], 1):
        figures = [f"{place.figures[name]:7.3f}" for name in names]
        show("  ".join([f"{rank:4}", *figures, *_columns(place.item, several=several, documents=documents)]))
        if documents:
            show("\n".join(passage(place.item.record)))
    if options.output is not None:
        ids = any(place.item.id is not None for place in places)
        records = [_record(rank, place, ids=ids, documents=documents) for rank, place in enumerate(places, 1)]
        columns: dict[str, type] = {"rank": int, "file": str, "index": int}
        columns |= {"id": str} if ids else {}
        columns |= {"line": int, "page": int} if documents else {}
        columns |= {**dict.fromkeys(names, float), "text": str}
        write_records(options.output, records, columns)
        tell(f"{options.output}: {len(records)} lines")


def _columns(item: Item, *, several: bool, documents: bool) -> list[str]:
    """Return what a line of the ranking says of a text beside its scores."""
    name = str(item.index + 1) if item.id is None else one_line(str(item.id))
    if not documents:
        return [*([printable(item.file)] if several else []), f"{name:>4}", one_line(item.text)]
    part = item.record.part
    where = printable(item.where if part is not None else f"{item.file}, item {name}")
    return [where, *([one_line(part.title)] if part is not None and part.title else [])]


def _record(rank: int, place: Place, *, ids: bool, documents: bool) -> dict[str, object]:
    """Return what is written of a text of the ranking."""
    item = place.item
    record: dict[str, object] = {"rank": rank, "file": encodable(item.file), "index": item.index}
    if ids:
        record["id"] = None if item.id is None else str(item.id)
    if documents:
        part = item.record.part
        record |= {"line": part.line or None if part else None, "page": part.page or None if part else None}
    return {**record, **place.figures, "text": item.text}


def passage(record: Record) -> list[str]:
    """Return the beginning of a passage as indented printable lines of bounded number and width.

    Lines of code stay apart, and others are joined.
    """
    part = record.part
    body = record.text if part is None else part.body
    prose = part is not None and bool(part.title)
    lines = [" ".join(body.split())] if prose else [line for line in body.expandtabs(4).split("\n") if line.strip()]
    width = min(max(shutil.get_terminal_size((WIDTH, 0)).columns, MIN_WIDTH), WIDTH) - len(INDENT)
    folded = [
        part
        for line in lines[:BEGINNING]
        for part in textwrap.wrap(
            printable(line[: BEGINNING * width], " "),
            width,
            drop_whitespace=False,
        )
    ]
    more = len(folded) > PASSAGE_LINES
    return [(INDENT + line).rstrip() for line in folded[:PASSAGE_LINES]] + ([f"{INDENT}…"] if more else [])


def printable(text: str, mark: str = "\ufffd") -> str:
    """Return a text as a terminal may show it: a mark stands for each control character."""
    return "".join(character if character.isprintable() else mark for character in encodable(text))


def one_line(text: str) -> str:
    """Return a text as one printable line of bounded length."""
    return printable(text[:SHOWN_CHARACTERS], " ") + ("…" if len(text) > SHOWN_CHARACTERS else "")
