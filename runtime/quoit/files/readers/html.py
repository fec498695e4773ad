"""Read HTML: a text for each paragraph, list item, table row and other block, after the headings above it.

The file is read whole. Scripts and styles are left out.
"""

from collections.abc import Iterator
from html.parser import HTMLParser

from quoit.files.readers.records import Entry, Source, below_headings
from quoit.files.readers.streams import whole_text

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
TITLE = "h0"
"""Level of the document's title, which its first h1 replaces."""
UNSEEN = ("script", "style", "template", "noscript", "svg")
WORDS = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp small "
    "span strike strong sub sup time tt u var wbr"
)
INLINE = frozenset(WORDS.split())
"""Elements within a text; the beginning and the end of any other ends a text."""
CELLS = ("td", "th")


def read_html(source: Source) -> Iterator[Entry]:
    """Yield a record for each block with text.

    Raises:
        InputError: the file cannot be read.
    """
    parser = _Blocks()
    parser.feed(whole_text(source))
    parser.close()
    parser.flush()
    for headings, body, line in parser.blocks:
        yield below_headings(source, headings, body, line)


class _Blocks(HTMLParser):
    """Collects the blocks of a page with the headings above each, and the line where each begins."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[tuple[list[str], str, int]] = []
        self.headings: dict[str, str] = {}
        self.inside = ""  # the heading or title that is open
        self.unseen = 0
        self.preformatted = 0
        self.text: list[str] = []
        self.line = 0

    def handle_starttag(self, tag: str, attributes: object) -> None:  # noqa: ARG002  HTMLParser's signature
        if tag in UNSEEN:
            self.unseen += 1
        self._bound(tag)
        if tag == "pre":
            self.preformatted += 1
        if tag in HEADINGS or tag == "title":
            self.inside = TITLE if tag == "title" else tag

    def handle_endtag(self, tag: str) -> None:
        if tag in UNSEEN:
            self.unseen = max(self.unseen - 1, 0)
        self._bound(tag)
        if tag == "pre":
            self.preformatted = max(self.preformatted - 1, 0)
        if tag in HEADINGS or tag == "title":
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.unseen or not (data.strip() or self.text):
            return
        if not self.text:
            leading = data[: len(data) - len(data.lstrip())]
            self.line = self.getpos()[0] + leading.count("\n")
        self.text.append(data if self.preformatted else " ".join(f"x{data}x".split())[1:-1])

    def _bound(self, tag: str) -> None:
        """End a text at the bound of an element, unless the element is part of the text."""
        if tag in CELLS:
            if self.text:
                self.text.append(" ")
        elif tag not in INLINE:
            self.flush()

    def flush(self) -> None:
        """End the text that is being collected."""
        body = "".join(self.text).strip()
        self.text = []
        if not body:
            return
        if self.inside:
            above = {tag: text for tag, text in self.headings.items() if TITLE < tag < self.inside}
            self.headings = above | {self.inside: body}
        else:
            self.blocks.append((list(self.headings.values()), body, self.line))
