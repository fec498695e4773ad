"""Read Markdown: a text for each paragraph, list item, table row and code block, after the headings above it.

The file is read whole.
"""

from collections.abc import Iterator
from typing import Any

from quoit.errors import InputError
from quoit.files.readers.records import Entry, Source, below_headings
from quoit.files.readers.streams import whole_text

TEXTS = ("inline", "fence", "code_block")
PARTS = ("heading_open", "heading_close", "thead_open", "thead_close", "tbody_open", "tbody_close")


def read_markdown(source: Source) -> Iterator[Entry]:
    """Yield a record for each block with text.

    Raises:
        InputError: markdown-it-py is not installed, or the file cannot be read.
    """
    headings: dict[str, str] = {}
    cells: list[str] = []
    inside = ""
    line = 1
    for token in markdown_parser().parse(whole_text(source)):
        line = token.map[0] + 1 + (token.type == "fence") if token.map else line
        if token.type in PARTS:
            inside = token.tag if token.nesting > 0 else ""
        elif token.type == "tr_close" and inside == "tbody":
            yield below_headings(source, list(headings.values()), " | ".join(filter(None, cells)), line)
            cells = []
        elif token.type not in TEXTS or not token.content.strip() or inside == "thead":
            continue
        elif inside == "tbody":
            cells.append(token.content)
        elif inside:
            headings = {tag: text for tag, text in headings.items() if tag < inside} | {inside: token.content}
        else:
            yield below_headings(source, list(headings.values()), token.content.strip(), line)


def markdown_parser() -> Any:
    """Return a CommonMark parser with tables.

    Raises:
        InputError: markdown-it-py is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise InputError(
            f"Markdown needs markdown-it-py ({error}); `pip install 'quoit[documents]'`, or use --input-format txt"
        ) from error
    return MarkdownIt("commonmark").enable("table")
