"""Natural pairs out of each collection: what was written as question and answer, name and meaning, title and text.

Every function yields `Pair`s from the files that `fetch` brought. This module does not know about splits.
"""

import ast
import re
import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from debian.deb822 import Deb822

from train.fetch import LANGUAGES, WHEELS
from train.pairs import Pair

SHORTEST_DOCUMENT = 30
LONGEST_DOCUMENT = 2_000
SHORTEST_QUERY = 3
"""In characters; what is longer than LONGEST_DOCUMENT is cut after the last whole word before it."""

MARKER = re.compile(r"\(\w+\)$")  # of an adjective's position: "galore(ip)"
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
RST_ROLE = re.compile(r":[\w:+-]+:`[~!]?([^`<]*?)(?:\s*<[^`>]*>)?`")
RST_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_+")
RST_TITLE = re.compile(r"^(?P<title>\S[^\n]{2,90})\n(?P<line>[=\-~^*\"#])(?P=line){2,}[ \t]*$", re.MULTILINE)
RST_DIRECTIVE = re.compile(r"^\s*(\.\. |:\w+:).*$", re.MULTILINE)


def tidy(text: str) -> str:
    """One line of text: reStructuredText's roles, links and quotes to what a reader sees, no runs of spaces."""
    text = RST_LINK.sub(r"\1", RST_ROLE.sub(r"\1", text)).replace("``", "").replace("**", "")
    text = " ".join(text.split())
    if len(text) > LONGEST_DOCUMENT:
        text = text[: LONGEST_DOCUMENT + 1].rsplit(" ", 1)[0]
    return text


def usable(pair: Pair) -> bool:
    """Long enough on both sides, and the document says more than the query."""
    long_enough = len(pair.query) >= SHORTEST_QUERY and len(pair.document) >= SHORTEST_DOCUMENT
    return long_enough and pair.document.lower() != pair.query.lower()


def describe(paragraph: Deb822, language: str) -> tuple[str, str]:
    """Summary and description of a package in a language."""
    summary, _, body = str(paragraph[f"Description-{language}"]).partition("\n")
    lines = ("" if line.strip() == "." else line.strip() for line in body.splitlines())
    return tidy(summary), tidy("\n".join(lines))


def debian(folder: Path) -> Iterator[Pair]:
    """Package summary and description, English and translated; an English summary and a translated description."""
    with (folder / "binary-amd64_Packages").open() as file:
        paragraphs = Deb822.iter_paragraphs(file, fields=["Package", "Source"], use_apt_pkg=False)
        families = {p["Package"]: str(p.get("Source", p["Package"])).split()[0] for p in paragraphs}
    english: dict[str, str] = {}
    for language in LANGUAGES:
        with (folder / f"i18n_Translation-{language}").open() as file:
            for paragraph in Deb822.iter_paragraphs(file, use_apt_pkg=False):
                package = str(paragraph["Package"])
                group = families.get(package)
                if group is None or f"Description-{language}" not in paragraph:
                    continue
                summary, description = describe(paragraph, language)
                if language == "en":
                    english[package] = summary
                    yield Pair("debian", f"debian/{group}", summary, description)
                elif summary != english.get(package):
                    yield Pair(f"debian-{language}", f"debian/{group}", summary, description)
                    if package in english:
                        yield Pair(f"debian-en-{language}", f"debian/{group}", english[package], description)


def wordnet(folder: Path) -> Iterator[Pair]:
    """The words of a synset and their gloss with its examples; names of people, places and species are left out."""
    data = folder / "wordnet-base" / "usr" / "share" / "wordnet"
    for part in ("noun", "verb", "adj", "adv"):
        for line in (data / f"data.{part}").read_text().splitlines():
            if line.startswith(" "):  # the licence
                continue
            facts, _, gloss = line.partition("|")
            fields = facts.split()
            words = [
                re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            ]
            if all(word == word.lower() for word in words):
                yield Pair("wordnet", f"wordnet/{words[0]}", ", ".join(words), tidy(gloss))


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence and the rest."""
    parts = SENTENCE.split(text, maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def python_docs(folder: Path) -> Iterator[Pair]:
    """Section titles of Python's documentation and the text below; a section's first sentence and what follows."""
    sources = folder / "python3.11-doc" / "usr" / "share" / "doc" / "python3.11" / "html" / "_sources"
    for file in sorted(sources.rglob("*.rst.txt")):
        text = file.read_text()
        name = str(file.relative_to(sources)).removesuffix(".rst.txt")
        titles = list(RST_TITLE.finditer(text))
        for title, after in zip_longest(titles, titles[1:]):
            heading = tidy(title["title"])
            body = tidy(RST_DIRECTIVE.sub("", text[title.end() : after.start() if after else None]))
            page = tidy(titles[0]["title"])
            query = heading if heading == page or heading.endswith("?") else f"{page}: {heading}"
            group = f"docs/{name}#{heading}"
            yield Pair("docs", group, query, body)
            sentence, rest = first_sentence(body)
            yield Pair("docs", group, sentence, rest)


def docstrings(folder: Path) -> Iterator[Pair]:
    """The summary line of a function's or class's docstring and the rest, behind its name and arguments."""
    for pin in WHEELS:
        package = pin.partition("==")[0]
        stem = package.replace("-", "_").lower()
        (file,) = (wheel for wheel in folder.glob("*.whl") if wheel.name.lower().startswith(f"{stem}-"))
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".py") and "/tests/" not in name:
                    yield from module_docstrings(archive.read(name), f"docstrings/{package}")


def module_docstrings(source: bytes, group: str) -> Iterator[Pair]:
    """The pairs of one module; none when it is not today's Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
            summary, _, rest = text.partition("\n\n")
            head = node.name
            if isinstance(node, ast.FunctionDef):
                head += f"({', '.join(a.arg for a in node.args.args if a.arg != 'self')})"
            if len(rest) >= SHORTEST_DOCUMENT:
                yield Pair("docstrings", group, tidy(summary), tidy(f"{head}: {RST_DIRECTIVE.sub('', rest)}"))
