"""Errors of files of texts: their format, encoding, columns and rows."""

import errno
import gzip
import os
import sys
from typing import Any, NoReturn, cast

import pyarrow
from pyarrow import parquet

from messages.harness import LONG, Case, Trigger, World
from quoit import InputError
from quoit.files.readers import Skipped, present, read_records, read_texts


def read(name: str, content: str | bytes, **options: Any) -> Trigger:
    """Reading texts from a file."""
    return lambda world: list(read_texts(world.write(name, content), **options))


def read_table(**columns: list[Any]) -> Trigger:
    """Reading texts from a table."""

    def trigger(world: World) -> object:
        parquet.write_table(pyarrow.table(columns), world.folder / "texts.parquet")
        return list(read_texts(str(world.folder / "texts.parquet")))

    return trigger


def read_parquet_without_pyarrow(world: World) -> object:
    world.patch.setitem(sys.modules, "pyarrow", cast("Any", None))  # an import block: the tests have pyarrow
    return list(read_texts(world.write("texts.parquet", b"")))


def read_markdown_without_its_parser(world: World) -> object:
    world.patch.setitem(sys.modules, "markdown_it", cast("Any", None))
    return list(read_texts(world.write("texts.md", b"text\n")))


def read_damaged_parquet(world: World) -> object:
    """The footer is whole, so that the damage shows only while reading."""
    file = world.folder / "texts.parquet"
    parquet.write_table(pyarrow.table({"text": [f"text {number}" for number in range(2000)]}), file)
    content = bytearray(file.read_bytes())
    content[100:140] = bytes(byte ^ 0x5A for byte in content[100:140])
    file.write_bytes(content)
    return list(read_texts(str(file)))


def read_csv_beyond_the_limit(content: str) -> Trigger:
    def trigger(world: World) -> object:
        # The csv module refuses nothing but a field beyond the limit, which is a gibibyte.
        world.patch.setattr("quoit.files.readers.delimited.FIELD_CHARACTERS", 100)
        return list(read_texts(world.write("texts.csv", content)))

    return trigger


def read_beyond_a_limit(limit: str, name: str) -> Trigger:
    def trigger(world: World) -> object:
        world.patch.setattr(f"quoit.files.readers.streams.{limit}", 10)  # the limits are hundreds of megabytes
        return list(read_texts(world.write(name, '["a", "b", "c"]')))

    return trigger


def read_a_file_that_went_away(world: World) -> object:
    texts = read_texts(world.write("texts.txt", "a\n"))
    (world.folder / "texts.txt").unlink()
    return list(texts)


def read_closed_standard_input(world: World) -> object:
    world.patch.setattr("sys.stdin", None)  # as Python has it after `<&-`
    return list(read_texts("-"))


def read_a_folder_that_is_closed(world: World) -> object:
    # An import block of the system's own function: root, who may run the tests, can list every folder.
    def scandir(path: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    world.patch.setattr("os.scandir", scandir)
    return read_texts(str(world.folder))


def read_two_columns_of_one_name(world: World) -> object:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(table, world.folder / "texts.parquet")
    return list(read_texts(str(world.folder / "texts.parquet")))


def all_lack_the_column(world: World) -> object:
    records = read_records(world.write("texts.jsonl", '{"body": "a"}\n{"id": 2}\n'))
    return list(present(records, Skipped()))


CASES = [
    Case(
        "parquet without pyarrow",
        read_parquet_without_pyarrow,
        InputError,
        "parquet needs pyarrow",
        "pip install 'quoit[parquet]'",
    ),
    Case("an unknown kind of texts", read("texts.docx", ""), InputError, "'docx'", "with --input-format"),
    Case(
        "texts that are not there",
        lambda world: read_texts(str(world.folder / "absent.txt")),
        InputError,
        "/absent.txt is no file",
        "check the path, or use -",
    ),
    Case(
        "Markdown without its parser",
        read_markdown_without_its_parser,
        InputError,
        "Markdown needs markdown-it-py",
        "pip install 'quoit[documents]'",
    ),
    Case(
        "parquet from standard input",
        lambda _: read_texts("-", kind="parquet"),
        InputError,
        "parquet cannot be read from standard input",
        "name a file",
    ),
    Case("parquet in gzip", read("texts.parquet.gz", b"\x1f\x8b"), InputError, "/texts.parquet.gz is", "with gunzip"),
    Case(
        "an empty folder", lambda world: read_texts(str(world.folder)), InputError, " is a folder without", "end in one"
    ),
    Case(
        "a name that is empty",
        lambda _: read_texts(""),
        InputError,
        "the file name is empty",
        "name a file or a folder",
    ),
    Case(
        "a folder that is closed", read_a_folder_that_is_closed, InputError, "cannot be listed: Permission", "check its"
    ),
    Case("a file that went away", read_a_file_that_went_away, InputError, "/texts.txt cannot be read: No", "check it"),
    Case("standard input that is closed", read_closed_standard_input, InputError, "standard input is closed", "name a"),
    Case("texts in Latin-1", read("texts.txt", b"caf\xe9\n"), InputError, "byte 0xe9", "convert it first"),
    Case(
        "half a gzip file",
        read("a.txt.gz", gzip.compress(b"a\n")[:-9]),
        InputError,
        "/a.txt.gz is a damaged",
        "make it",
    ),
    Case("no gzip file", read("a.txt.gz", "text\n"), InputError, "/a.txt.gz ends in .gz and is no", "rename it"),
    Case(
        "a line too long", read_beyond_a_limit("LINE_BYTES", "a.txt"), InputError, "/a.txt, line 1 has", "break it up"
    ),
    Case("a file too long", read_beyond_a_limit("WHOLE_BYTES", "a.json"), InputError, "/a.json has more", "convert it"),
    Case("no array", read("a.json", '{"text": ["a"]}'), InputError, """begins '{"text": ["a"]}'""", "make it an array"),
    Case("no JSON array", read("a.json", '["a",\n'), InputError, "a.json, line 2 is not JSON", "correct it"),
    Case("an array without a comma", read("a.json", '["a"\n "b"]'), InputError, "line 2 has neither", "correct it"),
    Case(
        "two arrays",
        read("a.json", '["a"]\n["b"]'),
        InputError,
        "line 2 has text after the end of the array",
        "correct it",
    ),
    Case("an array in a line", read("a.jsonl", '["a"]\n'), InputError, "line 1 begins an array", "--input-format json"),
    Case(
        "a key twice",
        read("a.jsonl", '{"text": "a", "text": "b"}'),
        InputError,
        "the key 'text' more",
        "remove all but",
    ),
    Case(
        "half a character in JSON",
        read("a.jsonl", '"a\\ud800"'),
        InputError,
        "line 1 has the lone",
        "correct the escape",
    ),
    Case("all without the column", all_lack_the_column, InputError, "line 1 has no key 'text'", "with --column"),
    Case("a row too long", read("a.csv", "text\na,b\n"), InputError, "a.csv, line 2 has 2 fields", "in quotes"),
    Case("a quote not closed", read("a.csv", 'text\n"a\nb\n'), InputError, "a.csv, line 2 has a quote", "close it"),
    Case("a CSV column twice", read("a.csv", "text,text\n"), InputError, "line 1 names the column 'text' 2", "rename"),
    Case("columns of one name", read_two_columns_of_one_name, InputError, "has 2 columns 'text'", "rename"),
    Case(
        "a long delimiter", read("a.csv", "text\n", delimiter="ab"), InputError, "--delimiter 'ab'", "use one such as"
    ),
    Case("a delimiter for txt", read("a.txt", "a\n", delimiter=";"), InputError, "not for txt", "leave it out"),
    Case("a line that is no JSON", read("texts.jsonl", '"a"\n{\n'), InputError, ".jsonl, line 2", "correct it"),
    Case("a line of JSON too deep", read("texts.jsonl", '{"a":' * 100_000), InputError, ".jsonl, line 1", "correct it"),
    Case(
        "no such column of a CSV file",
        read("texts.csv", "id,body\n1,a\n"),
        InputError,
        "no column 'text', but ['id', 'body']",
        "name one with --column",
    ),
    Case(
        "a first line of a CSV file that is long",
        read("texts.csv", f"{LONG}\na\n"),
        InputError,
        "no column 'text'",
        "name one with --column",
    ),
    Case(
        "a CSV field beyond the limit",
        read_csv_beyond_the_limit(f"text\n{LONG}\n"),
        InputError,
        ".csv, line 2",
        "correct it",
    ),
    Case(
        "a CSV header beyond the limit",
        read_csv_beyond_the_limit(f"{LONG}\n"),
        InputError,
        ".csv, line 1",
        "correct it",
    ),
    Case("a file that is no parquet", read("texts.parquet", "text\n"), InputError, "/texts.parquet is no", "check it"),
    Case(
        "no such column of a parquet file",
        read_table(id=[1], body=["a"]),
        InputError,
        "no column 'text', but ['id', 'body']",
        "name one with --column",
    ),
    Case(
        "a parquet file of many columns",
        read_table(**{f"column {number}": ["a"] for number in range(500)}),
        InputError,
        "no column 'text'",
        "name one with --column",
    ),
    Case(
        "a damaged parquet file",
        read_damaged_parquet,
        InputError,
        "/texts.parquet cannot be read after row 0",
        "check it",
    ),
    Case(
        "a row without a text",
        read_table(text=["a", None]),
        InputError,
        "row 2 has null in 'text'",
        "with --skip-missing",
    ),
    Case(
        "a record without a text",
        read("texts.jsonl", '{"body": "a"}\n'),
        InputError,
        "no key 'text'; its keys are ['body']",
        "name another with --column",
    ),
    Case(
        "a record with a number",
        read("texts.jsonl", '{"text": 5}\n'),
        InputError,
        "no text in 'text', but 5",
        "name another with --column, or correct it",
    ),
]
