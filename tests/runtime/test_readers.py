"""Texts read from every kind of file."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from quoit import InputError
from quoit.files.readers import KINDS, STANDARD_INPUT, read_texts


def read(file: Path, content: bytes | str, **options: Any) -> list[str]:
    """The texts of a file with this content."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_texts(str(file), **options))


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("", []),
        ("a\nb\n", ["a", "b"]),
        ("a\nb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("\na\n\n\nb\n", ["", "a", "", "", "b"]),
        ("\r\n\r\n", ["", ""]),
        (" a \t\n", [" a \t"]),
        ("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n", ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"]),
        ("日本語\n😀\n", ["日本語", "😀"]),
        ('"quoted"\n{"text": "a"}\n', ['"quoted"', '{"text": "a"}']),
    ],
)
def test_a_line_of_txt_is_a_text(tmp_path: Path, content: str, texts: list[str]) -> None:
    assert read(tmp_path / "texts.txt", content) == texts


def test_a_carriage_return_inside_a_line_of_txt_is_kept(tmp_path: Path) -> None:
    """Lines end where other tools see them end, or vectors and lines would not match."""
    assert read(tmp_path / "texts.txt", "10 %\r100 %\nb\r\r\n") == ["10 %\r100 %", "b\r"]


def test_jsonl_has_strings_and_objects_and_blank_lines(tmp_path: Path) -> None:
    content = '"a"\n\n{"text": "b", "id": 5}\r\n  \n{"text": "c\\nd\\u2028"}\n"e\u2028f"'
    assert read(tmp_path / "texts.jsonl", content) == ["a", "b", "c\nd\u2028", "e\u2028f"]


def test_the_column_names_the_key(tmp_path: Path) -> None:
    content = '{"text": "wrong", "body": "right"}\n"bare"\n'
    assert read(tmp_path / "texts.jsonl", content, column="body") == ["right", "bare"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON: .*; correct it"),
        ("bare words", "is not JSON"),
        ('"a" "b"', "is not JSON"),
        ("5", "has no text in 'text', but 5; name another with --column"),
        ("null", "has null in 'text'; correct it, name another with --column, or leave such records out"),
        ('["a"]', r"begins an array, .*; read a file that is one array with --input-format json"),
        ("  [", r"begins an array, '\['; read a file that is one array with --input-format json"),
        ('{"body": "a"}', r"has no key 'text'; its keys are \['body'\]; correct it"),
        ('{"text": null}', "has null in 'text'"),
        ('{"text": "a", "n": 1, "text": "b"}', "has the key 'text' more than once; remove all but one"),
        ('"a\\ud800"', r"has the lone surrogate '\\ud800' at position 1 of its text; correct the escape"),
        ('{"text": "a", "n": 1', "is not JSON: Expecting ',' delimiter at column 21; correct it"),
        ('{"text": 5}', "has no text in 'text', but 5"),
        pytest.param("[" * 100_000, "begins an array", id="deep array"),
        pytest.param('{"text":' * 100_000, "is not JSON: it is nested too deep; correct it", id="deep object"),
    ],
)
def test_a_bad_line_of_jsonl_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(f'"good"\n\n{line}\n"never reached"\n')
    texts = read_texts(str(file))
    assert next(texts) == "good"
    with pytest.raises(InputError, match=f"^{re.escape(str(file))}, line 3 {message}"):
        next(texts)


def test_csv_has_quoted_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    content = 'id,text\r\n1,plain\r\n2,"a, b"\r\n3,"say ""hi"""\r\n4,"one\ntwo\r\nthree"\r\n5,\r\n\r\n6,last'
    expected = ["plain", "a, b", 'say "hi"', "one\ntwo\r\nthree", "", "last"]
    assert read(tmp_path / "texts.csv", content) == expected


def test_csv_gives_back_what_pythons_writer_wrote(tmp_path: Path) -> None:
    texts = ["", "a\u2028b", "\n\n", '",\r\n"', " x ", "日本語", "x" * 200_000]
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerows([["id", "body"], *enumerate(texts)])
    assert read(tmp_path / "texts.csv", target.getvalue(), column="body") == texts


@pytest.mark.parametrize("content", ["", "\n\n", "id,body\n1,a\n"])
def test_a_missing_csv_column_names_those_that_are_there(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"csv, line 1 has no column 'text', but \[('id', 'body')?\]; name one"):
        read(tmp_path / "texts.csv", content)


def test_a_short_csv_row_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 4 has no text in 'text', but 1 of 2 fields"):
        read(tmp_path / "texts.csv", 'id,text\n1,"a\nb"\n2\n')
    assert read(tmp_path / "texts.csv", "text,id\na,1\nb\n") == ["a", "b"], "the text is there"


def write_table(file: Path, **columns: list[Any]) -> Path:
    parquet.write_table(pyarrow.table(columns), file, row_group_size=2)
    return file


def test_parquet_gives_its_column(tmp_path: Path) -> None:
    file = write_table(tmp_path / "texts.parquet", id=[1, 2, 3, 4, 5], text=["a", "", "b\nc", "日本語", "e"])
    assert list(read_texts(str(file))) == ["a", "", "b\nc", "日本語", "e"]
    file = write_table(tmp_path / "none.parquet", text=pyarrow.array([], pyarrow.string()))
    assert list(read_texts(str(file))) == []


def test_a_missing_parquet_column_names_those_that_are_there(tmp_path: Path) -> None:
    file = write_table(tmp_path / "texts.parquet", id=[1], body=["a"])
    assert list(read_texts(str(file), column="body")) == ["a"]
    with pytest.raises(InputError, match=r"has no column 'text', but \['id', 'body'\]; name one with --column"):
        list(read_texts(str(file)))


def test_a_bad_parquet_row_is_named(tmp_path: Path) -> None:
    file = write_table(tmp_path / "texts.parquet", text=["a", "b", None])
    with pytest.raises(InputError, match=r"texts\.parquet, row 3 has null in 'text'"):
        list(read_texts(str(file)))
    file = write_table(tmp_path / "numbers.parquet", text=[1, 2])
    with pytest.raises(InputError, match="row 1 has no text in 'text', but 1"):
        list(read_texts(str(file)))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"texts\.parquet is no readable parquet file: .*; check it"):
        read(tmp_path / "texts.parquet", "text\na\n")


@pytest.mark.parametrize("part", [0.02, 0.1, 0.4])
def test_parquet_with_damaged_pages_is_refused(tmp_path: Path, part: float) -> None:
    """The footer is whole, so that the damage shows only while reading."""
    file = tmp_path / "texts.parquet"
    parquet.write_table(pyarrow.table({"text": [f"text {number}" for number in range(2000)]}), file)
    content = bytearray(file.read_bytes())
    at = int(len(content) * part)
    content[at : at + 40] = bytes(byte ^ 0x5A for byte in content[at : at + 40])
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(file))):
        list(read_texts(str(file)))


@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl", "texts.csv", "texts.md"])
def test_what_is_not_utf8_is_refused(tmp_path: Path, name: str) -> None:
    content = 'text\n"caf\u00e9"\n'.encode("latin-1") if name != "texts.jsonl" else b'"caf\xe9"\n'
    line = 1 if name == "texts.jsonl" else 2
    with pytest.raises(InputError, match=f"{name}, line {line} is not UTF-8: byte 0xe9, .*; convert it first"):
        read(tmp_path / name, content)


@pytest.mark.parametrize("name", ["texts.docx", "texts", "texts.TXT2", "texts.gz", "texts.docx.gz"])
def test_an_unknown_kind_is_refused(tmp_path: Path, name: str) -> None:
    kinds = "txt, jsonl, json, csv, tsv, md, parquet, html, pdf, code"
    with pytest.raises(InputError, match=f"{name} has the unknown kind .*; name one of {kinds} with --input-format"):
        read(tmp_path / name, "a\n")


def test_a_named_kind_comes_before_the_suffix(tmp_path: Path) -> None:
    assert read(tmp_path / "texts.log", "a\n", kind="txt") == ["a"]
    assert read(tmp_path / "texts.csv", '"a"\n', kind="jsonl") == ["a"]
    assert read(tmp_path / "TEXTS.TXT", "a\n") == ["a"]
    with pytest.raises(InputError, match="unknown kind 'odt'"):
        read(tmp_path / "texts.txt", "a\n", kind="odt")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_missing_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"absent.{kind}"
    with pytest.raises(InputError, match=f"^{re.escape(str(path))} is no file; check the path"):
        read_texts(str(path), kind=kind)
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))} is a folder without text files"):
        read_texts(str(tmp_path), kind=kind)


def set_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (None, "a\r\n\n日本語"),
        ("txt", "a\n\n日本語\n"),
        ("jsonl", '"a"\n""\n"日本語"'),
        ("csv", "text,n\na,1\n,2\n日本語,3\n"),
        ("tsv", "text\tn\na\t1\n\t2\n日本語\t3\n"),
        ("json", '["a", "", "日本語"]'),
    ],
)
def test_standard_input_is_read_as_utf8(monkeypatch: pytest.MonkeyPatch, kind: str | None, content: str) -> None:
    set_stdin(monkeypatch, content.encode())
    assert list(read_texts("-", kind=kind)) == ["a", "", "日本語"]


def test_standard_input_that_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_stdin(monkeypatch, b"good\n\xff\n")
    with pytest.raises(InputError, match=r"^standard input, line 2 is not UTF-8: byte 0xff, invalid start byte"):
        list(read_texts("-"))


def test_parquet_is_not_read_from_standard_input() -> None:
    with pytest.raises(InputError, match="parquet cannot be read from standard input; name a file"):
        read_texts("-", kind="parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_table(tmp_path / "texts.parquet", text=["a"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"parquet needs pyarrow .*pip install 'quoit\[parquet\]'"):
        list(read_texts(str(file)))


def test_every_kind_that_is_offered_is_tested() -> None:
    assert sorted(KINDS) == ["code", "csv", "html", "json", "jsonl", "md", "parquet", "pdf", "tsv", "txt"]
    assert STANDARD_INPUT == "-"


MARKDOWN = """# Guide

Two lines
of one paragraph.

## Install

- first *item*
- second

| command | |
|---|---|
| `run` | starts it |

<!-- a comment -->

```sh
pip install x
```

# Other

end
"""


def test_markdown_is_read_by_the_block_behind_its_headings(tmp_path: Path) -> None:
    assert read(tmp_path / "guide.md", MARKDOWN) == [
        "Guide: Two lines of one paragraph.",
        "Guide: Install: first *item*",
        "Guide: Install: second",
        "Guide: Install: `run` | starts it",
        "Guide: Install: pip install x",
        "Other: end",
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "# only a heading\n", "<!-- comment -->\n"])
def test_markdown_without_text_has_no_texts(tmp_path: Path, content: str) -> None:
    assert read(tmp_path / "guide.md", content) == []
