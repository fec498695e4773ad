"""Read source code: a text for each block between blank lines that begins without an indentation."""

from collections.abc import Iterator

from quoit.files.readers.records import Entry, Part, Source, part_record
from quoit.files.readers.streams import text_lines

WORDS = (
    "bash c cc cfg cpp cs css cxx dart el erl ex go gradle h hh hpp hs ini java jl js jsx kt kts lua m mjs ml nix php "
    "pl proto ps1 py pyi r rb rs rst sbt scala sh sql swift toml ts tsx vue yaml yml zig zsh"
)
SUFFIXES = tuple(WORDS.split())
"""Suffixes of files of source code and configuration."""


def read_code(source: Source) -> Iterator[Entry]:
    """Yield a record for each block.

    Raises:
        InputError: the file cannot be read.
    """
    lines: list[str] = []
    start = 1
    for number, line in enumerate(text_lines(source), 1):
        begins = bool(line.strip()) and not line[0].isspace()
        if begins and lines and not lines[-1].strip():
            yield from _block(source, lines, start)
            lines, start = [], number
        lines.append(line)
    yield from _block(source, lines, start)


def _block(source: Source, lines: list[str], start: int) -> Iterator[Entry]:
    blank = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    body = "".join(lines[blank:]).rstrip()
    if body:
        yield part_record(source, body, Part(body, line=start + blank))
