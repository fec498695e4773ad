"""Read files with one JSON value a line: a string, or an object that has the text under the column's name."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

from quoit.errors import InputError, brief, shown
from quoit.files.readers.records import Entry, Mark, Source, object_record
from quoit.files.readers.streams import text_lines

Pairs = list[tuple[str, Any]]


def read_jsonl(source: Source) -> Iterator[Entry]:
    """Yield a record for each line that is not blank.

    Raises:
        InputError: a line is not JSON, or begins an array, as a .json file does.
    """
    decoder = json_decoder(source)
    for number, line in enumerate(text_lines(source), 1):
        if not line.strip():
            continue
        place = source.line(number)
        if line.lstrip().startswith("["):
            raise InputError(
                f"{place} begins an array, {shown(line.strip())}; read a file that is one array with --input-format "
                "json"
            )
        try:
            value = decoder.decode(line.rstrip("\r\n"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} is not JSON: {json_fault(error)}; correct it") from error
        yield object_record(value, source, place)


def json_decoder(source: Source) -> json.JSONDecoder:
    """Return a decoder that marks a repeated key of a column; Python would take the last value of such a key."""
    columns = [source.column, *source.keep]
    names = frozenset(chain(columns, *(column.split(".") for column in columns)))
    return json.JSONDecoder(object_pairs_hook=partial(_object, names))


def json_fault(error: ValueError | RecursionError) -> str:
    """Return the fault in words, without the line, which the caller knows."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.removesuffix(' at')} at column {error.colno}"
    return "it is nested too deep" if isinstance(error, RecursionError) else brief(error)


def _object(names: frozenset[str], pairs: Pairs) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        found |= dict.fromkeys((name for name in names if keys.count(name) > 1), Mark.REPEATED)
    return found
