r"""Plain text: a line is a text. `\n` and `\r\n` end a line, and nothing else does."""

from collections.abc import Iterator

from quoit.files.readers.records import Record, Source
from quoit.files.readers.streams import text_lines


def read_txt(source: Source) -> Iterator[Record]:
    """A text for each line, empty ones too, so that line and row have the same number."""
    for number, line in enumerate(text_lines(source), 1):
        yield Record(line.removesuffix("\n").removesuffix("\r"), source.line(number))
