"""Documents: what is read of Markdown, HTML, PDF and code, where it stands, how trees are walked and texts are cut."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from documents import write_pdf
from quoit import InputError
from quoit.files.chunks import MIN_TOKENS, Chunking
from quoit.files.readers import Record, files_of, kind_of, read_records
from quoit.files.readers.records import Part

REPOSITORY = Path(__file__).parents[2]
HTML = """<!doctype html>
<html><head><title>Animals</title><style>p { color: red }</style>
<script>var a = "<p>never read</p>";</script></head>
<body>
<p>Both are <b>pets</b> &amp; friends.</p>
<h1>Cats and
dogs</h1>
<ul><li>Cats sleep.<li>Dogs bark.</ul>
<table><tr><th>name</th><th>age</th></tr><tr><td>Tom</td><td>7</td></tr></table>
<h2>Birds</h2><div>They<br>sing<p></p></div>
<pre>  one
    two</pre>
<h2>Fish</h2><p>They swim.
</body></html>
"""


def read(file: Path) -> list[tuple[str, str, int, int]]:
    """Text, title, line and page of each part."""
    found = []
    for entry in read_records(str(file)):
        assert isinstance(entry, Record)
        assert entry.part is not None
        found.append((entry.text, entry.part.title, entry.part.line, entry.part.page))
    return found


def test_html_is_read_by_its_blocks(tmp_path: Path) -> None:
    file = tmp_path / "page.htm"
    file.write_text(HTML)
    assert read(file) == [
        ("Animals: Both are pets & friends.", "Animals", 5, 0),
        ("Cats and dogs: Cats sleep.", "Cats and dogs", 8, 0),
        ("Cats and dogs: Dogs bark.", "Cats and dogs", 8, 0),
        ("Cats and dogs: name age", "Cats and dogs", 9, 0),
        ("Cats and dogs: Tom 7", "Cats and dogs", 9, 0),
        ("Cats and dogs: Birds: They", "Cats and dogs: Birds", 10, 0),
        ("Cats and dogs: Birds: sing", "Cats and dogs: Birds", 10, 0),
        ("Cats and dogs: Birds: one two", "Cats and dogs: Birds", 11, 0),
        ("Cats and dogs: Fish: They swim.", "Cats and dogs: Fish", 13, 0),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<h2>Zebra <br>facts</h2><p>They run.", ("Zebra facts: They run.", "Zebra facts")),
        ("<h2>Icon <svg><title>t</title><path/></svg> zebra</h2>They run.", ("Icon zebra: They run.", "Icon zebra")),
        ("<h2>Foo<p>para", ("Foo: para", "Foo")),
        ("<svg><path><p>seen", ("seen", "")),
        ("<noscript>seen</noscript>", ("seen", "")),
        ("<p>one <svg><title>t</title></svg>two", ("one two", "")),
        ("<title>T</title><h2>A</h2><p>x", ("T: A: x", "T: A")),
        ("<title>T</title><h1>A</h1><p>x", ("A: x", "A")),
        ("<h1>A</h1><h3>C</h3><h2>B</h2><p>x", ("A: B: x", "A: B")),
    ],
)
def test_no_text_of_html_is_lost(tmp_path: Path, body: str, expected: tuple[str, str]) -> None:
    (tmp_path / "page.html").write_text(body)
    assert [part[:2] for part in read(tmp_path / "page.html")] == [expected]


@pytest.mark.parametrize("content", ["", "<p>", "</p></script>text", "<script>never", "<<<>>>&#xD800;&bogus;<a b='"])
def test_broken_html_is_no_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(content)
    for text, *_ in read(file):
        assert text.encode()
    assert "never" not in str(read(file))


def test_a_pdf_has_a_text_for_each_page_with_one(tmp_path: Path) -> None:
    file = tmp_path / "paper.pdf"
    file.write_bytes(write_pdf("The first page.", "", "The third page."))
    assert read(file) == [("The first page.", "", 0, 1), ("The third page.", "", 0, 3)]
    assert [entry.place for entry in read_records(str(file))] == [f"{file}, page 1", f"{file}, page 3"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no PDF", "paper.pdf is no readable PDF: "),
        (write_pdf("a page")[:-400], "paper.pdf "),
        (write_pdf("", ""), "paper.pdf has 2 pages and no text; if they are scanned, recognise their text"),
        (write_pdf("secret", password="x"), "paper.pdf is no readable PDF: "),
    ],
)
def test_a_pdf_without_text_is_refused_by_its_name(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "paper.pdf"
    file.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        read(file)


def test_code_is_read_by_its_blocks(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("\n\nimport os\nX = 1\n\n\ndef f():\n    a = 1\n\n    return a\n\n@g\nclass A:\n    pass\n")
    assert read(file) == [
        ("import os\nX = 1", "", 3, 0),
        ("def f():\n    a = 1\n\n    return a", "", 7, 0),
        ("@g\nclass A:\n    pass", "", 12, 0),
    ]


def test_formats_have_several_suffixes() -> None:
    names = {"a.PY": "code", "a.rs.gz": "code", "a.htm": "html", "a.markdown": "md", "a.PDF": "pdf", "a.md": "md"}
    assert {name: kind_of(name) for name in names} == names
    with pytest.raises(InputError, match=r"has the unknown kind 'docx'; name one of .*pdf.* with --input-format"):
        kind_of("a.docx")


def names(folder: Path, **options: Any) -> list[str]:
    return [Path(file).relative_to(folder).as_posix() for file in files_of(str(folder), **options)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "a.py",
        "b.md",
        "build/c.md",
        "sub/d.md",
        "sub/build/e.md",
        "sub/f.txt",
        "sub/keep/g.txt",
        ".venv/h.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\n")
    (tmp_path / ".gitignore").write_text("/build/\n*.txt\n")
    (tmp_path / "sub" / "keep" / ".gitignore").write_text("!g.txt\n")
    return tmp_path


def test_a_tree_is_walked_as_git_sees_it(tree: Path) -> None:
    everything = ["b.md", "build/c.md", "sub/build/e.md", "sub/d.md", "sub/f.txt", "sub/keep/g.txt"]
    assert names(tree) == everything
    assert names(tree, with_code=True) == ["a.py", *everything]
    assert names(tree, ignore=True) == ["b.md", "sub/build/e.md", "sub/d.md", "sub/keep/g.txt"]
    assert names(tree / "build", ignore=True) == ["c.md"], "what is named is read"


def test_ignoring_needs_its_package(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pathspec", None)
    with pytest.raises(InputError, match=r"\.gitignore needs pathspec .*pip install 'quoit\[documents\]'"):
        names(tree, ignore=True)
    assert "b.md" in names(tree)


def test_a_gitignore_that_cannot_be_read_is_named(tree: Path) -> None:
    (tree / ".gitignore").unlink()
    (tree / ".gitignore").symlink_to("absent")
    with pytest.raises(InputError, match=r"\.gitignore cannot be read: .*; correct it, or use --no-ignore"):
        names(tree, ignore=True)


@pytest.mark.parametrize(
    "patterns",
    [
        b"build/\n!sub\n",
        b"sub\n!sub/keep\n",
        b"sub/*\n!sub/keep\n",
        b"*\n!*/\n!*.md\n",
        b"\xef\xbb\xbfb.md\n",
        b"!\na\\\n\xff\nb.md\r\n",
        b"**/build/**\n",
        b"sub/**/g.txt\n#b.md\n\\#b.md\n",
        b"/*.py\nkeep/\n",
        b"b.md \nd.md\x0cx\n",
    ],
)
def test_patterns_mean_what_git_means(tree: Path, patterns: bytes) -> None:
    (tree / ".gitignore").write_bytes(patterns)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tree / "absent"), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "init", "--quiet"], cwd=tree, env=environment, check=True)
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True, text=True).stdout
    expected = [name for name in listed.splitlines() if not any(part.startswith(".") for part in name.split("/"))]
    assert sorted(names(tree, with_code=True, ignore=True)) == sorted(expected)


def test_datasets_are_no_documents(tree: Path) -> None:
    (tree / "sub" / "v.lance" / "_versions").mkdir(parents=True)
    (tree / "sub" / "v.lance" / "_versions" / "hint.json").write_text("{}")
    assert not any("lance" in name for name in names(tree))


# Chunks


@pytest.fixture(scope="module")
def count() -> Callable[[str], int]:
    tokenizer = Tokenizer.from_file(str(REPOSITORY / "models" / "quoit-embedding-9m" / "tokenizer.json"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def parts(*bodies: str, title: str = "") -> list[Record]:
    """Parts of a document, each in the line after the one before."""
    records, line = [], 1
    for body in bodies:
        records.append(Record(body, f"a.md, line {line}", part=Part(body, title, line)))
        line += body.count("\n") + 1
    return records


@pytest.mark.parametrize("overlap", [1, 4, 8, 16])
def test_a_chunk_begins_with_the_last_words_of_the_one_before(count: Callable[[str], int], overlap: int) -> None:
    """As many as have no more tokens than the overlap, of which one more word would have more; never all words."""
    words = [f"word{number}" for number in range(300)]
    chunks = [chunk.text.split() for chunk in Chunking(64, overlap, count).cut(parts(" ".join(words)))]
    start = 0
    for before, chunk in pairwise(chunks):
        start += len(before)
        repeated = start - words.index(chunk[0])
        alone, whole = (" ".join(words[start - more : start - repeated + len(chunk)]) for more in (0, repeated))
        assert count(whole) - count(alone) <= overlap
        if repeated < len(before) - 1:
            longer = " ".join(words[start - repeated - 1 : start - repeated + len(chunk)])
            assert count(longer) - count(alone) > overlap
        start -= repeated


@pytest.mark.parametrize("tokens", [MIN_TOKENS, 33, 64, 256])
@pytest.mark.parametrize("overlap", [0, 1, 8])
def test_no_chunk_has_more_tokens_and_all_text_is_in_one(
    count: Callable[[str], int], tokens: int, overlap: int
) -> None:
    """On this repository's page, headings included, and on text without any break."""
    pages = [REPOSITORY / "runtime" / "README.md", REPOSITORY / "bench" / "README.md"]
    records = [entry for page in pages for entry in read_records(str(page)) if isinstance(entry, Record)]
    records += parts("日本語" * 300, "x" * 3000, "😀" * 200)
    chunking = Chunking(tokens, overlap, count)
    chunks = list(chunking.cut(records))
    assert max(count(chunk.text) for chunk in chunks) <= tokens
    whole = "".join("".join(chunk.part.body.split()) for chunk in chunks if chunk.part)
    expected = "".join("".join(record.part.body.split()) for record in records if record.part)
    if overlap:
        assert len(whole) > len(expected)
    else:
        assert whole == expected


def test_chunks_know_their_lines(count: Callable[[str], int]) -> None:
    """Within a part too, and each chunk's first words stand in its line."""
    body = "\n".join(f"In the line {number} there are some words about it." for number in range(100))
    for chunk in Chunking(32, 0, count).cut(parts("A first part.", body, "A last part.")):
        assert chunk.part is not None
        first = chunk.text.split("\n")[0]
        expected = 1 if "first" in first else 102 if "last" in first else int(first.split()[3]) + 2
        assert chunk.part.line == expected


def test_parts_under_the_same_headings_are_joined_and_others_are_not(count: Callable[[str], int]) -> None:
    records = [*parts("Cats sleep.", "Cats eat.", title="Animals: Cats"), *parts("Dogs bark.", title="Animals: Dogs")]
    chunks = list(Chunking(64, 0, count).cut(records))
    assert [chunk.text for chunk in chunks] == ["Animals: Cats: Cats sleep. Cats eat.", "Animals: Dogs: Dogs bark."]
    assert [chunk.part.body for chunk in chunks if chunk.part] == ["Cats sleep.\n\nCats eat.", "Dogs bark."]


def test_headings_that_take_more_than_half_are_shortened(count: Callable[[str], int]) -> None:
    title = "A long heading of the first level with many words, and then still more words behind those: Inner"
    (chunk,) = Chunking(MIN_TOKENS, 0, count).cut(parts("Cats sleep.", title=title))
    assert chunk.text == "Inner: Cats sleep."
    assert chunk.part is not None
    assert chunk.part.title == title
    (alone,) = Chunking(MIN_TOKENS, 0, count).cut(parts("Cats sleep.", title="many " * 30))
    assert alone.text == "Cats sleep."


def test_characters_of_many_tokens_find_room(count: Callable[[str], int]) -> None:
    """The one that has most: NFC makes three of it, with four bytes each."""
    longest = "\U0001d1c0"
    assert count(longest) == 12
    for overlap in (0, 16):
        chunks = list(Chunking(MIN_TOKENS, overlap, count).cut(parts(longest * 20, title="many " * 15)))
        assert max(count(chunk.text) for chunk in chunks) <= MIN_TOKENS


def test_rows_are_cut_and_never_joined(count: Callable[[str], int]) -> None:
    rows = [
        Record("short", "a.jsonl, line 1"),
        Record("", "a.jsonl, line 2"),
        Record("word " * 79 + "word", "a.jsonl, line 3"),
    ]
    chunks = list(Chunking(32, 0, count).cut(rows))
    assert [chunk.place for chunk in chunks] == ["a.jsonl, line 1", "a.jsonl, line 2", *["a.jsonl, line 3"] * 3]
    assert " ".join(chunk.text for chunk in chunks[2:]) == "word " * 79 + "word"


@pytest.mark.parametrize(
    ("tokens", "overlap", "expected"),
    [
        (MIN_TOKENS - 1, 0, "--chunk 31 is too small; use a number from 32 on"),
        (-1, 0, "--chunk -1 is too small"),
        (32, -1, "--overlap -1 must be between 0 and half of --chunk 32"),
        (32, 17, "--overlap 17 must be between 0 and half of --chunk 32"),
    ],
)
def test_wrong_numbers_are_refused(tokens: int, overlap: int, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Chunking(tokens, overlap, len)
