"""Errors of the columns beside vectors: their names, ids and types, and of Lance datasets."""

import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow
from pyarrow import parquet

from messages.harness import Case, Command, Trigger, World
from quoit import InputError
from quoit.files.kept import KeptColumns, OutputColumns, RowNumbers
from quoit.files.readers import read_records
from quoit.files.writers import VECTOR_WRITERS, check_destination


def embed(name: str, content: str, *options: str, out: str = "out.parquet") -> Command:
    """`quoit embed` of a file."""

    def arguments(world: World) -> list[str]:
        file = world.write(name, content)
        return ["embed", file, "-o", str(world.folder / out), "-m", str(world.sources.artifact), *options]

    return Command("quoit", arguments)


def table(world: World, name: str = "rows.parquet", **columns: Any) -> str:
    file = world.folder / name
    parquet.write_table(pyarrow.table(columns), file)
    return str(file)


def kept(columns: OutputColumns, *tables: dict[str, Any]) -> Trigger:
    """Reading the columns of parquet files."""

    def trigger(world: World) -> object:
        files = [table(world, f"{number}.parquet", **one) for number, one in enumerate(tables)]
        return list(KeptColumns(files, columns).values())

    return trigger


def change_while_embedding(world: World) -> object:
    file = table(world, n=[1])
    columns = KeptColumns([file], OutputColumns(None, ("n",)))
    table(world, n=[1, 2])
    return list(columns.values())


def write_too_few_rows(world: World) -> None:
    beside = RowNumbers(np.arange(1), None)
    VECTOR_WRITERS[".parquet"](world.folder / "out.parquet", np.zeros((2, 3), np.float32), beside, {}, ["id", "vector"])


def embed_parquet_and_others(world: World) -> list[str]:
    folder = world.folder / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "a", "n": 1}\n')
    parquet.write_table(pyarrow.table({"text": ["a"], "n": [1]}), folder / "b.parquet")
    model = ["-m", str(world.sources.artifact)]
    return ["embed", str(folder), "-o", str(world.folder / "out.jsonl"), "--keep", "n", *model]


def kept_as_json(**columns: Any) -> Trigger:
    """Reading the columns of a parquet file for JSON."""

    def trigger(world: World) -> object:
        return list(KeptColumns([table(world, **columns)], OutputColumns(None, ("n",)), as_json=True).values())

    return trigger


def lance_without_its_package(world: World) -> None:
    world.patch.setitem(sys.modules, "lance", cast("Any", None))  # an import block: the tests have pylance
    check_destination(world.folder / "out.lance", [".lance"])


def over(make: Callable[[Path], object]) -> Trigger:
    """Writing a dataset where something else is."""

    def trigger(world: World) -> None:
        make(world.folder / "out.lance")
        check_destination(world.folder / "out.lance", [".lance"])

    return trigger


CASES = [
    Case(
        "a column without a name", embed("a.csv", "text\na\n", "--keep", ""), InputError, "empty", "with --id, --keep"
    ),
    Case(
        "two columns of one name",
        embed("a.csv", "text,id\na,1\n", "--keep", "id"),
        InputError,
        "two columns 'id'",
        "give it as --id",
    ),
    Case(
        "columns beside vectors alone",
        embed("a.csv", "text,n\na,1\n", "--keep", "n", out="out.npy"),
        InputError,
        "/out.npy has vectors alone",
        "write .parquet, .lance or .jsonl",
    ),
    Case(
        "a column that csv does not have",
        embed("a.csv", "text,n\na,1\n", "--keep", "m"),
        InputError,
        "no column 'm', but ['text', 'n']",
        "name one with --keep",
    ),
    Case(
        "a column that parquet does not have",
        kept(OutputColumns(None, ("m",)), {"n": [1]}),
        InputError,
        "/0.parquet has no column 'm', but ['n']",
        "name others with --keep and --id",
    ),
    Case(
        "columns of different types",
        kept(OutputColumns(None, ("n",)), {"n": [1]}, {"n": [datetime.date(2026, 1, 1)]}),
        InputError,
        "columns of different types",
        "leave the column out of --keep",
    ),
    Case(
        "ids that are no ids",
        kept(OutputColumns("n"), {"n": [0.5]}),
        InputError,
        "'n' has values of type double",
        "name another with --id",
    ),
    Case(
        "a row of parquet without an id",
        kept(OutputColumns("n"), {"n": [1, None]}),
        InputError,
        "/0.parquet, row 2 has no id in 'n'",
        "name another column with --id",
    ),
    Case(
        "a column that JSON cannot represent",
        kept_as_json(n=[{"day": datetime.date(2026, 1, 1)}]),
        InputError,
        "/rows.parquet has the column 'n' of type struct<day: date32[day]>",
        "leave it out of --keep",
    ),
    Case(
        "a value that JSON cannot represent",
        kept_as_json(n=pyarrow.array([b"\xff"]).view(pyarrow.string())),
        InputError,
        "/rows.parquet has a value that JSON cannot represent",
        "leave the column out of --keep",
    ),
    Case(
        "a key that no record has",
        embed("a.jsonl", '{"text": "a"}\n', "--keep", "n"),
        InputError,
        "/a.jsonl, line 1 has no key 'n'",
        "with --keep or --id",
    ),
    Case(
        "a name that Lance cannot have",
        embed("a.csv", "text,a.b\na,1\n", "--keep", "a.b", out="out.lance"),
        InputError,
        "Lance cannot have a column 'a.b'",
        "write .parquet, or rename",
    ),
    Case("a table that changes", change_while_embedding, InputError, "/rows.parquet changed", "run the command anew"),
    Case("less rows than vectors", write_too_few_rows, InputError, "2 vectors have 1 rows", "run the command anew"),
    Case(
        "a row without an id",
        embed("a.jsonl", '{"text": "a", "n": null}\n', "--id", "n"),
        InputError,
        "/a.jsonl, line 1 has no id in 'n', but none",
        "name another with --id",
    ),
    Case(
        "a value that cannot be kept",
        embed("a.jsonl", '{"text": "a", "n": "\\ud800"}\n', "--keep", "n"),
        InputError,
        "/a.jsonl, line 1 has a value among n",
        "leave it out of --keep",
    ),
    Case(
        "ids of a document",
        lambda world: read_records(world.write("a.md", "a\n"), keep=["n"], ids=True),
        InputError,
        "/a.md is md, which has no ids",
        "leave --id out",
    ),
    Case(
        "columns of a document",
        lambda world: read_records(world.write("a.md", "a\n"), keep=["n"]),
        InputError,
        "/a.md is md, which has no column 'n'",
        "keep some of text, title, file, line, page",
    ),
    Case(
        "parquet beside others",
        Command("quoit", embed_parquet_and_others),
        InputError,
        "/in has parquet files and others",
        "embed them apart",
    ),
    Case(
        "lance without its package",
        lance_without_its_package,
        InputError,
        "lance needs pylance",
        "pip install 'quoit[lance]'",
    ),
    Case("a dataset over a file", over(Path.touch), InputError, "/out.lance exists", "name another output"),
    Case(
        "a dataset in no folder",
        lambda world: check_destination(world.folder / "absent" / "out.lance", [".lance"]),
        InputError,
        "/absent is no folder that can be written",
        "make it, or name another",
    ),
]
