"""Read a JSON file that is one array of strings, or of objects that have the text under the column's name.

The file is read whole. Its items are decoded one by one, so that the line of each one is known.
"""

import json
import re
from collections.abc import Iterator

from quoit.errors import InputError, brief
from quoit.files.readers.jsonl import json_decoder, json_fault
from quoit.files.readers.records import Entry, Source, object_record
from quoit.files.readers.streams import whole_text

SPACE = re.compile(r"[ \t\n\r]*")


def read_json(source: Source) -> Iterator[Entry]:
    """Yield a record for each item of the array.

    Raises:
        InputError: the file is not JSON, or not an array.
    """
    text = whole_text(source)
    start = _after_space(text, 0)
    if not text.startswith("[", start):
        raise InputError(
            f"{source.name} is no JSON array, but begins {brief(text[start : start + 40])!r}; make it an array of "
            "strings or objects (pandas: orient='records'), or read one object a line with --input-format jsonl"
        )
    line, counted = 1, 0
    for number, (value, at) in enumerate(_items(text, start, source), 1):
        line += text.count("\n", counted, at)
        counted = at
        yield object_record(value, source, f"{source.line(line)}, item {number}")


def _items(text: str, start: int, source: Source) -> Iterator[tuple[object, int]]:
    """Yield the items of the array that begins at `start`, each with the position where it begins."""
    decoder = json_decoder(source)
    at = _after_space(text, start + 1)
    closed = text.startswith("]", at)
    while not closed:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            where = error.pos if isinstance(error, json.JSONDecodeError) else at
            line = source.line(text.count("\n", 0, where) + 1)
            raise InputError(f"{line} is not JSON: {json_fault(error)}; correct it") from error
        yield value, at
        end = _after_space(text, end)
        closed = text.startswith("]", end)
        if not closed and not text.startswith(",", end):
            raise _misplaced(source, text, end, "neither a comma nor the end of the array")
        at = end if closed else _after_space(text, end + 1)
    if _after_space(text, at + 1) != len(text):
        raise _misplaced(source, text, _after_space(text, at + 1), "text after the end of the array")


def _misplaced(source: Source, text: str, at: int, what: str) -> InputError:
    line = source.line(text.count("\n", 0, at) + 1)
    return InputError(f"{line} has {what} at column {at - text.rfind(chr(10), 0, at)}; correct it")


def _after_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return at if found is None else found.end()
