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
UNSEEN = ("script", "style", "svg")
WORDS = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp small "
    "span strike strong sub sup time tt u var wbr"
)
INLINE = frozenset(WORDS.split())
"""Elements within a text; the beginning and the end of any other ends a text."""
CELLS = ("td", "th")
BLOCK_WORDS = "article aside div dl footer header li main nav ol p pre section table td th tr ul"
BLOCKS = frozenset(BLOCK_WORDS.split())
"""Elements that no heading and no picture contains, so their beginning ends one that was not closed."""


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
        if tag in BLOCKS or tag in HEADINGS:
            self.unseen = 0
            self._end_heading()
        if tag in UNSEEN:
            self.unseen += 1
        if self.unseen:
            return
        self._bound(tag)
        if tag == "pre":
            self.preformatted += 1
        if tag in HEADINGS or tag == "title":
            self.inside = TITLE if tag == "title" else tag

    def handle_endtag(self, tag: str) -> None:
        if self.unseen:
            self.unseen -= tag in UNSEEN
            return
        if tag in HEADINGS or tag == "title":
            self._end_heading()
        self._bound(tag)
        if tag == "pre":
            self.preformatted = max(self.preformatted - 1, 0)

    def handle_data(self, data: str) -> None:
        if self.unseen or not (data.strip() or self.text):
            return
        if not self.text:
            leading = data[: len(data) - len(data.lstrip())]
            self.line = self.getpos()[0] + leading.count("\n")
        self.text.append(data if self.preformatted else " ".join(f"x{data}x".split())[1:-1])

    def _bound(self, tag: str) -> None:
        """End a text at the bound of an element, unless the element is part of the text."""
        if tag in CELLS or (self.inside and tag not in INLINE):
            if self.text:
                self.text.append(" ")
        elif tag not in INLINE:
            self.flush()

    def _end_heading(self) -> None:
        """Take what was collected as the heading that is open, if one is."""
        if self.inside:
            self.flush()
            self.inside = ""

    def flush(self) -> None:
        """End the text that is being collected."""
        body = "".join(self.text).strip()
        self.text = []
        if not body:
            return
        if self.inside:
            titled = TITLE if self.inside == "h1" else ""
            above = {tag: text for tag, text in self.headings.items() if titled < tag < self.inside}
            self.headings = above | {self.inside: " ".join(body.split())}
        else:
            self.blocks.append((list(self.headings.values()), body, self.line))
