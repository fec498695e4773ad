r"""Read plain text: each line is a text. Only `\n` and `\r\n` end a line."""

from collections.abc import Iterator

from quoit.files.readers.records import Entry, Part, Source, part_record
from quoit.files.readers.streams import text_lines


def read_txt(source: Source) -> Iterator[Entry]:
    """Yield a text for each line, also for an empty one, so that line and row have the same number."""
    for number, line in enumerate(text_lines(source), 1):
        text = line.removesuffix("\n").removesuffix("\r")
        yield part_record(source, text, Part(text, line=number))
