"""json, tsv, gzip, pipes and folders as files of texts; and what is wrong in one is named with its line."""

import gzip
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from documents import write_pdf
from quoit import InputError
from quoit.files.readers import (
    KINDS,
    Entry,
    Record,
    Skipped,
    files_of,
    kind_of,
    present,
    read_files,
    read_records,
    read_texts,
)
from quoit.files.readers.folders import files_in

TEXT_KINDS = [kind for kind in KINDS if kind != "parquet"]
CONTENTS = {
    "txt": "one\ntwo\n",
    "jsonl": '"one"\n{"text": "two"}\n',
    "json": '["one", {"text": "two"}]',
    "csv": "text,id\none,1\ntwo,2\n",
    "tsv": "text\tid\none\t1\ntwo\t2\n",
    "md": "one\n\ntwo\n",
    "html": "<p>one<p>two",
    "code": "one\n\ntwo\n",
}
"""The same two texts in each kind of text."""


def bytes_of(kind: str) -> bytes:
    """The same two texts in each kind."""
    return write_pdf("one", "two") if kind == "pdf" else CONTENTS[kind].encode()


def path_of(folder: Path, kind: str) -> Path:
    """A file whose suffix tells its kind."""
    return folder / f"a.{'py' if kind == 'code' else kind}"


def read(file: Path, content: bytes | str, **options: Any) -> list[str]:
    """The texts of a file with this content."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_texts(str(file), **options))


def refused(file: Path, content: bytes | str, message: str, **options: Any) -> None:
    """The file is refused with its name and this message, a regular expression."""
    with pytest.raises(InputError, match=f"^{re.escape(str(file))}{message}"):
        read(file, content, **options)


def places(file: Path, content: str, **options: Any) -> list[str]:
    """Where the records of a file stand."""
    file.write_text(content, newline="")
    return [record.place.removeprefix(f"{file}, ") for record in read_records(str(file), **options)]


# json


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("[]", []),
        (" [ ] \n", []),
        ('\ufeff["a"]', ["a"]),
        ('[\r\n  "a",\r\n  {"id": 1, "text": "b\\nc"}\r\n]\r\n', ["a", "b\nc"]),
        ('["[", "]", ",", "\\"", "", {"text": "{"}]', ["[", "]", ",", '"', "", "{"]),
        ('[{"text": "a", "more": [{"text": "not this"}, [1, 2]]}]', ["a"]),
    ],
)
def test_json_is_an_array_of_strings_and_objects(tmp_path: Path, content: str, texts: list[str]) -> None:
    assert read(tmp_path / "a.json", content) == texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", " is no JSON array, but begins ''; make it an array of strings or objects"),
        ('{"text": ["a", "b"]}', r" is no JSON array, but begins .*pandas: orient='records'"),
        ('{"text": "a"}\n{"text": "b"}\n', " is no JSON array, .* or read one object a line with --input-format jsonl"),
        ('"a"', " is no JSON array, but begins '\"a\"'"),
        ('["a",\n "b" "c"]', ", line 2 has neither a comma nor the end of the array at column 6; correct it"),
        ('["a",\n "b"', ", line 2 has neither a comma nor the end of the array at column 5"),
        ('["a",\n', ", line 2 is not JSON: Expecting value at column 1; correct it"),
        ('["a",\n]', ", line 2 is not JSON: Expecting value at column 1"),
        ('["a",\n  {"text": b}]', ", line 2 is not JSON: Expecting value at column 12"),
        ('["a",\n"b]', ", line 2 is not JSON: Unterminated string starting at column 1"),
        ('["a"]\n["b"]', ", line 2 has text after the end of the array at column 1"),
        ('[\n"a",\n5]', ", line 3, item 2 has no text in 'text', but 5"),
        ('[\n"a",\n\n{"text": null}]', ", line 4, item 2 has null in 'text'; .* with --skip-missing"),
        (
            '["a", {"body": 1, "meta": {"title": 2}}]',
            r", line 1, item 2 has no key 'text'; its keys are \['body', 'meta.title'\]",
        ),
        ('["a", {"text": "b", "text": "c"}]', ", line 1, item 2 has the key 'text' more than once"),
        ('["a",\n"\\ud800"]', ", line 2, item 2 has the lone surrogate"),
        ("[" * 100_000, ", line 1 is not JSON: it is nested too deep; correct it"),
        (f"[{'9' * 5000}]", ", line 1 is not JSON: Exceeds the limit"),
        (b'["a",\n"\xff"]', ", line 2 is not UTF-8: byte 0xff, invalid start byte"),
    ],
)
def test_what_is_wrong_in_json_is_named_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    refused(tmp_path / "a.json", content, message)


def test_a_key_that_is_repeated_elsewhere_is_no_matter(tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", '[{"id": 1, "text": "a", "id": 2}]') == ["a"]


def test_a_column_may_be_a_path(tmp_path: Path) -> None:
    """A key that has the dot in its own name comes first."""
    content = '{"meta": {"text": "a"}}\n{"meta.text": "b", "meta": {"text": "c"}}\n'
    assert read(tmp_path / "a.jsonl", content, column="meta.text") == ["a", "b"]
    refused(tmp_path / "a.jsonl", '{"meta": null}\n', ", line 1 has null in 'meta.text'", column="meta.text")
    refused(
        tmp_path / "a.jsonl",
        '{"meta": 5}\n',
        r", line 1 has no key 'meta.text'; its keys are \['meta'\]",
        column="meta.text",
    )
    repeated = '{"meta": {"text": "a"}, "meta": {"text": "b"}}\n'
    refused(tmp_path / "a.jsonl", repeated, ", line 1 has the key 'meta.text' more than once", column="meta.text")


def test_parquet_has_paths_too(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"id": [1, 2, 3], "meta": [{"t": "a"}, {"t": None}, None]}), file)
    texts = [entry.text if isinstance(entry, Record) else None for entry in read_records(str(file), column="meta.t")]
    assert texts == ["a", None, None]
    with pytest.raises(InputError, match=r"no column 'text', but \['id', 'meta', 'meta.t'\]; name one with --column"):
        list(read_texts(str(file)))


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"]), pyarrow.array(["c"]), pyarrow.array(["d"])]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=["text", "id", "id", "body"]), file)
    assert list(read_texts(str(file))) == ["a"], "another column is no matter"
    with pytest.raises(InputError, match="has 2 columns 'id'; rename all but one"):
        list(read_texts(str(file), column="id"))


# csv and tsv


def test_tsv_has_tabs_and_the_quotes_of_csv(tmp_path: Path) -> None:
    content = 'id\ttext\n1\ta, b\n2\t"a\tb"\n3\t"say ""hi"""\n4\tsay "hi"\n'
    assert read(tmp_path / "a.tsv", content) == ["a, b", "a\tb", 'say "hi"', 'say "hi"']


@pytest.mark.parametrize("delimiter", [";", "|", "\t", r"\t", ",", " ", "\u00a6"])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_the_delimiter_can_be_named(tmp_path: Path, kind: str, delimiter: str) -> None:
    mark = "\t" if delimiter == r"\t" else delimiter
    content = f"id{mark}text\n1{mark}one\n2{mark}\n"
    assert read(tmp_path / f"a.{kind}", content, delimiter=delimiter) == ["one", ""]


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "\r", r"\n"])
def test_a_delimiter_that_is_none_is_refused_before_reading(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(InputError, match=r"^--delimiter .* must be one character other than a quote"):
        read_texts(str(tmp_path / "a.csv"), delimiter=delimiter)


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "md", "parquet"])
def test_a_delimiter_for_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").write_text("text\na\n")
    with pytest.raises(InputError, match=f"--delimiter ';' is for csv and tsv, not for {kind}; leave it out"):
        read_texts(str(tmp_path / f"a.{kind}"), delimiter=";")


@pytest.mark.parametrize(("kind", "mark"), [("csv", ";"), ("csv", "\t"), ("csv", "|"), ("tsv", ","), ("tsv", ";")])
def test_a_header_in_one_piece_hints_at_the_delimiter(tmp_path: Path, kind: str, mark: str) -> None:
    message = rf", line 1 has no column 'text', but .*; use --delimiter {re.escape(repr(mark))}$"
    refused(tmp_path / f"a.{kind}", f"id{mark}text\n1{mark}a\n", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('id,text\n1,a\n2,"b\n3,c\n', ", line 3 has a quote that is never closed; close it"),
        ('id,text\n1,"a\nb"\n2,"b\n3,"c\n', ", line 4 has wrong quotes: .*; put the whole field in quotes"),
        ('id,"text\n1,a\n', ", line 1 has a quote that is never closed"),
        ('id,text\n1,"a"b\n', ", line 2 has wrong quotes"),
        ("id,text\n1,a\rb\n", ", line 2 has a carriage return outside quotes; end lines with"),
        ("id,text\r1,a\r2,b\r", ", line 1 has a carriage return outside quotes"),
        ('id,text\n1,"a\nb"\n2,b,c\n', ", line 4 has 3 fields, and the header has 2; put a text with ',' in quotes"),
        ("text,id,text\na,1,b\n", ", line 1 names the column 'text' 2 times; rename all but one"),
        ('id,text\n\n1,"a\n\nb"\n2\n', ", line 6 has no text in 'text', but 1 of 2 fields; .* with --skip-missing"),
    ],
)
def test_what_is_wrong_in_csv_is_named_with_the_line_it_begins_in(tmp_path: Path, content: str, message: str) -> None:
    refused(tmp_path / "a.csv", content, message)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("text\n", []),
        ("text", []),
        ('\ufeff"text",id\r\n"a\r\nb",1\r\n\r\n"",2\r\n', ["a\r\nb", ""]),
        ("\n\ntext\na\n", ["a"]),
        ("text,id,id\na,1,2\n", ["a"]),
        ("id,text,more\n1,a\n2,b,c\n", ["a", "b"]),
        ("text\na\0b\n", ["a\0b"]),
        ('text\n"a\rb"\n', ["a\rb"]),
        ('text,id\nsay "hi",1\n', ['say "hi"']),
        ("text\n" + "x" * 3_000_000 + "\n", ["x" * 3_000_000]),
    ],
)
def test_csv_as_programs_write_it(tmp_path: Path, content: str, texts: list[str]) -> None:
    assert read(tmp_path / "a.csv", content) == texts


def test_a_field_beyond_the_limit_is_named_by_its_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quoit.files.readers.delimited.FIELD_CHARACTERS", 1000)  # it is 134 million
    refused(tmp_path / "a.csv", 'text\na\n"b\n' + "c\n" * 1000, ", line 3 has a field that is too long, or a quote")


# Places


def test_every_record_has_the_line_it_begins_in(tmp_path: Path) -> None:
    assert places(tmp_path / "a.txt", "a\r\n\nb") == ["line 1", "line 2", "line 3"]
    assert places(tmp_path / "a.jsonl", '"a"\n\n\n"b"\n') == ["line 1", "line 4"]
    assert places(tmp_path / "a.json", '["a", "b",\n\n"c"]') == ["line 1, item 1", "line 1, item 2", "line 3, item 3"]
    assert places(tmp_path / "a.csv", 'text\r\n\r\n"a\r\nb"\r\nc\r\n') == ["line 3", "line 5"]
    assert places(tmp_path / "a.md", "# h\n\na\nb\n\n- c\n- d\n\n|x|\n|-|\n|e|\n\n```\nf\n```\n") == [
        f"line {line}" for line in (3, 6, 7, 11, 14)
    ]


# gzip


@pytest.mark.parametrize("kind", TEXT_KINDS)
@pytest.mark.parametrize("suffix", [".gz", ".GZ"])
def test_gzip_of_every_text_format_is_read(tmp_path: Path, kind: str, suffix: str) -> None:
    file = path_of(tmp_path, kind)
    assert read(file.with_name(file.name + suffix), gzip.compress(bytes_of(kind))) == ["one", "two"]
    assert read(file, bytes_of(kind)) == ["one", "two"]


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    """No text format can begin so: the bytes are no UTF-8. Members are joined, zeros behind them padding."""
    content = gzip.compress(b"one\n") + gzip.compress(b"two\n") + b"\0" * 10
    assert read(tmp_path / "a.txt", content) == ["one", "two"]
    assert read(tmp_path / "a.log", content, kind="txt") == ["one", "two"]


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, kind: str) -> None:
    name = path_of(tmp_path, kind)
    file, whole = name.with_name(f"{name.name}.gz"), gzip.compress(bytes_of(kind))
    for size in range(2, len(whole)):
        refused(file, whole[:size], " is a damaged gzip file: .*; make it again")
    for size in (0, 1):
        refused(file, whole[:size], " ends in .gz and is no gzip file; rename it, or make it again")
    refused(file, bytes_of(kind), " ends in .gz and is no gzip file")
    refused(file, whole[:-6] + b"\xff" * 6, " is a damaged gzip file: CRC check failed")
    refused(file, whole + b"garbage", " is a damaged gzip file: Not a gzipped file")


def test_what_comes_before_the_end_of_half_a_gzip_file_is_given(tmp_path: Path) -> None:
    lines = [f"text {number}" for number in range(100_000)]
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode())[:100_000])
    found: list[str] = []
    with pytest.raises(InputError, match=r"a\.txt\.gz is a damaged gzip file: Compressed file ended"):
        found.extend(read_texts(str(tmp_path / "a.txt.gz")))
    assert len(found) > 10_000
    assert found == lines[: len(found)]


def test_a_gzip_file_may_unpack_to_much_more_than_the_memory(tmp_path: Path) -> None:
    """Lines are read one by one: 400 MB take less than 100 MB."""
    with gzip.open(tmp_path / "lines.txt.gz", "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write((b"x" * 4095 + b"\n") * 1024)
    program = (
        "import resource, sys; from quoit.files.readers import read_texts\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(1 for _ in read_texts(sys.argv[1])))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "lines.txt.gz"], capture_output=True, check=True)
    assert done.stdout.split() == [b"102400", b"True"]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_a_line_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("quoit.files.readers.streams.LINE_BYTES", 1000)  # it is 268 million
    content = gzip.compress(b"text\n" + b"x" * 1_000_000) if kind != "jsonl" else gzip.compress(b'"a"\n' + b" " * 10**6)
    refused(tmp_path / f"a.{kind}.gz", content, ", line 2 has more than 1,000 bytes; break it up")


@pytest.mark.parametrize("kind", ["json", "md"])
def test_a_whole_file_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("quoit.files.readers.streams.WHOLE_BYTES", 1000)  # it is a gibibyte
    refused(tmp_path / f"a.{kind}.gz", gzip.compress(b" " * 2_000_000), " has more than 1,000 bytes, and .* jsonl")


def test_parquet_in_gzip_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "a.parquet.gz", gzip.compress(b"PAR1"), " is a gzip file, .*; unpack it with gunzip")


# Pipes, devices and standard input


def piped(content: bytes) -> Iterator[str]:
    """The path of an open pipe's descriptor, as the shell's `<(...)` gives it."""
    reader, writer = os.pipe()

    def write() -> None:
        with open(writer, "wb") as pipe:  # noqa: PTH123  a descriptor
            pipe.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    yield f"/dev/fd/{reader}"
    thread.join()
    os.close(reader)


@pytest.mark.parametrize("kind", [None, *TEXT_KINDS])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_pipe_is_read(kind: str | None, packed: bool) -> None:
    content = bytes_of(kind or "txt")
    for path in piped(gzip.compress(content) if packed else content):
        assert list(read_texts(path, kind=kind)) == ["one", "two"]


def test_a_named_pipe_is_read_by_its_suffix(tmp_path: Path) -> None:
    pipe = tmp_path / "a.jsonl"
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_text('"one"\n"two"\n'))
    thread.start()
    assert list(read_texts(str(pipe))) == ["one", "two"]
    thread.join()
    pipe.rename(tmp_path / "pipe")
    assert kind_of(str(tmp_path / "pipe")) == "txt"


def test_parquet_is_not_read_from_a_pipe() -> None:
    for path in piped(b"PAR1"):
        with pytest.raises(InputError, match=f"^parquet cannot be read from {path}; name a file"):
            read_texts(path, kind="parquet")


@pytest.mark.parametrize("path", ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("regular", [False, True], ids=["pipe", "file"])
def test_standard_input_has_many_names(tmp_path: Path, path: str, regular: bool) -> None:
    program = "import sys; from quoit.files.readers import read_texts; print(list(read_texts(sys.argv[1])))"
    command = [sys.executable, "-c", program, path]
    (tmp_path / "content").write_text("one\ntwo")
    with (tmp_path / "content").open() as file:
        given: dict[str, Any] = {"stdin": file} if regular else {"input": b"one\ntwo"}
        done = subprocess.run(command, capture_output=True, check=True, **given)
    assert done.stdout == b"['one', 'two']\n"


def test_standard_input_that_a_program_replaced_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"one\ntwo\n"))))
    assert list(read_texts("-")) == ["one", "two"]


def test_devices_are_read(tmp_path: Path) -> None:
    assert list(read_texts("/dev/null")) == []


def test_a_file_that_cannot_be_read_is_named() -> None:
    """Nothing is mapped at its beginning."""
    with pytest.raises(InputError, match=r"^/proc/self/mem cannot be read: Input/output error; check it and its perm"):
        list(read_texts("/proc/self/mem", kind="txt"))


# Folders


def make_tree(folder: Path) -> Path:
    """A folder with files of many kinds in it."""
    names = [
        "b.txt",
        "a/z.jsonl",
        "a/b/c.csv.gz",
        "a.txt",
        "A.TXT",
        "a-1.txt",
        ".hidden.txt",
        ".git/config.txt",
        "x.py",
    ]
    for name in [*names, "a/.b/c.txt", "a/image.png", "none"]:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        content = CONTENTS["csv"] if "csv" in name else CONTENTS["jsonl"] if "jsonl" in name else f"{name}\n"
        file.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return folder


SORTED = ["A.TXT", "a/b/c.csv.gz", "a/z.jsonl", "a-1.txt", "a.txt", "b.txt"]


def test_a_folder_is_its_known_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    make_tree(tmp_path)
    assert files_of(str(tmp_path)) == [str(tmp_path / name) for name in SORTED]
    texts = ["A.TXT", "one", "two", "one", "two", "a-1.txt", "a.txt", "b.txt"]
    assert list(read_texts(str(tmp_path))) == texts
    assert list(read_texts(f"{tmp_path}/")) == texts


def test_with_a_kind_a_folder_is_all_its_files(tmp_path: Path) -> None:
    for name in ("one", "two.log", ".three", "four.csv"):
        (tmp_path / name).write_text(f"{name}\n")
    assert list(read_texts(str(tmp_path), kind="txt")) == ["four.csv", "one", "two.log"]


def test_links_to_files_are_read_and_links_to_folders_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "real.txt").write_text("real\n")
    (folder / "link.txt").symlink_to(tmp_path / "real.txt")
    (folder / "again").symlink_to(folder)
    os.mkfifo(folder / "pipe.txt")
    assert list(read_texts(str(folder))) == ["real"]
    (tmp_path / "link").symlink_to(folder)
    assert list(read_texts(str(tmp_path / "link"))) == ["real"]
    (folder / "broken.txt").symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match=r"broken\.txt is no file"):
        read_texts(str(folder))
    (folder / "broken.txt").unlink()
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    with pytest.raises(InputError, match=r"loop\.txt is no file"):
        read_texts(str(folder))


def test_an_empty_name_is_not_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell's variable that is not set gives it."""
    (tmp_path / "a.txt").write_text("a\n")
    monkeypatch.chdir(tmp_path)
    assert list(read_texts(".")) == ["a"]
    with pytest.raises(
        InputError, match=r"^the file name is empty; name a file or a folder, or use - for standard input"
    ):
        read_texts("")


def test_a_file_without_a_suffix_is_of_no_kind_wherever_it_lies(tmp_path: Path) -> None:
    for file in (tmp_path / "texts", Path("/dev/shm/absent"), Path("/proc/self/status")):
        with pytest.raises(InputError, match=r"has the unknown kind ''; name one of .* with --input-format"):
            kind_of(str(file))


@pytest.mark.parametrize("name", [None, ".hidden.txt", "code.py", "sub/none"])
def test_a_folder_without_texts_is_refused(tmp_path: Path, name: str | None) -> None:
    if name is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n")
    suffixes = "txt, jsonl, json, csv, tsv, md, parquet, html, pdf, htm, markdown, each also with .gz"
    with pytest.raises(
        InputError, match=f"^{re.escape(str(tmp_path))} is a folder without text files; .* in one of {suffixes}"
    ):
        read_texts(str(tmp_path))


def test_a_bad_record_in_a_folder_is_named_by_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.jsonl").write_text('"b"\n{"text": 5}\n')
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / 'b.jsonl'))}, line 2 has no text"):
        list(read_texts(str(tmp_path)))


def test_a_name_that_is_no_utf8_is_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("a\n")
    assert files_in(str(tmp_path), lambda _: True) == [str(tmp_path / name)]
    assert list(read_texts(str(tmp_path))) == ["a"]


# Missing texts


def kept(entries: Iterator[Entry]) -> tuple[list[tuple[int, str]], Skipped]:
    """The records with a text, and what was left out."""
    skipped = Skipped()
    return [(row, record.text) for row, record in present(entries, skipped)], skipped


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '"one"\nnull\n{"text": null}\n\n{"id": 3}\n"two"\n'),
        ("a.json", '["one",\nnull, {"text": null}, {"id": 3}, "two"]'),
        ("a.csv", 'id,text\n1,one\n2\n3\n"4"\n5,two\n'),
    ],
)
def test_missing_texts_are_left_out_and_counted(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    found, skipped = kept(read_records(str(tmp_path / name)))
    assert found == [(0, "one"), (4, "two")]
    assert skipped.rows == [1, 2, 3]
    line = {"a.jsonl": "line 2", "a.json": "line 2, item 2", "a.csv": "line 3"}[name]
    expected = f"3 records without a text were left out, the first at {tmp_path / name}, {line}"
    assert skipped.describe() == expected


def test_missing_texts_of_parquet_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": [None, "one", None, ""]}), file)
    found, skipped = kept(read_records(str(file)))
    assert (found, skipped.rows) == ([(1, "one"), (3, "")], [0, 2])


def test_an_empty_field_is_a_text_and_a_blank_line_of_txt_is_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,\n2,""\n')
    (tmp_path / "a.txt").write_text("\n \n")
    assert kept(read_records(str(tmp_path / "a.csv"))) == ([(0, ""), (1, "")], Skipped())
    assert kept(read_records(str(tmp_path / "a.txt"))) == ([(0, ""), (1, " ")], Skipped())


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_column_that_no_record_has_is_misspelt(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"body": "a"}\n{"id": 2}\n' if name == "a.jsonl" else '[{"body": "a"}, {"id": 2}]')
    with pytest.raises(
        InputError, match=r"line 1.* has no key 'text'; its keys are \['body'\]; no other record has it"
    ):
        kept(read_records(str(tmp_path / name)))


@pytest.mark.parametrize("content", ["5\n", '{"text": 5}\n', '{"text": ["a"]}\n', "{\n"])
def test_what_is_no_text_is_refused_even_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"a\.jsonl, line 1 "):
        kept(read_records(str(tmp_path / "a.jsonl")))


def test_records_are_numbered_through_all_files(tmp_path: Path) -> None:
    """A record that is left out has its number among the records of all files of a folder, as the texts have."""
    (tmp_path / "a.jsonl").write_text('"one"\nnull\n')
    (tmp_path / "b.jsonl").write_text('null\n"two"\n')
    (tmp_path / "c.csv").write_text("text\nthree\n")
    (tmp_path / "d.jsonl").write_text('"four"\nnull\n')
    skipped = Skipped()
    assert list(read_texts(str(tmp_path), skipped=skipped)) == ["one", "two", "three", "four"]
    assert skipped.rows == [1, 2, 6]
    assert skipped.first == f"{tmp_path}/a.jsonl, line 2"
    again = Skipped()
    texts = [record.text for record in read_files(files_of(str(tmp_path)), skipped=again)]
    assert texts == ["one", "two", "three", "four"]
    assert again == skipped


def test_all_files_are_checked_before_the_first_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(InputError, match=r"absent\.txt is no file"):
        read_files([str(tmp_path / "a.txt"), str(tmp_path / "absent.txt")])
