"""Ids and columns of the input stand beside the vectors, in every pair of formats, and after an interruption."""

import datetime
import json
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from command_line import Quoit, read_jsonl
from quoit import Embedder, InputError
from quoit.files.kept import OutputColumns
from quoit.files.packages import ROWS_AT_A_TIME
from quoit.files.partial_output import drafting
from quoit.files.readers import Record
from quoit.files.writers import LANCE_VERSIONS
from quoit.text.tokenizer import Truncation

ROWS: list[dict[str, Any]] = [
    {"key": "a", "text": "Dogs bark.", "year": 2001, "score": 1, "tags": ["x", "y"], "mixed": 1},
    {"key": "b", "text": "Cats sleep.", "year": None, "score": 0.5, "tags": None, "mixed": "one"},
    {"key": "ß", "text": "", "score": 2, "tags": [], "mixed": None},
]
COLUMNS = ["year", "score", "tags", "mixed"]
FORMATS = [".jsonl", ".parquet", ".lance"]


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of an output, without their vectors."""
    return [{name: value for name, value in row.items() if name != "vector"} for row in whole(file)]


def whole(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".jsonl":
        return read_jsonl(file)
    table: Any = lance.dataset(file).to_table() if file.suffix == ".lance" else parquet.read_table(file)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def vectors(file: Path, name: str = "vector") -> Any:
    return np.array([row[name] for row in whole(file)], np.float32)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


@pytest.mark.parametrize("suffix", FORMATS)
def test_values_of_json_are_kept(
    quoit: Quoit, model: list[str], embedder: Embedder, rows: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"out{suffix}"
    assert quoit("embed", rows, "-o", out, "--id", "key", "--keep", *COLUMNS, *model)[0] == 0
    expected = [{"id": row["key"]} | {name: row.get(name) for name in COLUMNS} for row in ROWS]
    if suffix != ".jsonl":  # lists and mixed types are JSON
        for row in expected:
            row["tags"] = row["tags"] if row["tags"] is None else json.dumps(row["tags"]).replace(" ", "")
            row["mixed"] = row["mixed"] if row["mixed"] is None else json.dumps(row["mixed"])
    assert read(out) == expected
    np.testing.assert_array_equal(vectors(out), embedder.encode_document([row["text"] for row in ROWS]))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_every_format_of_rows_has_columns(
    quoit: Quoit, model: list[str], tmp_path: Path, kind: str, suffix: str
) -> None:
    source, out = tmp_path / f"rows.{kind}", tmp_path / f"out{suffix}"
    if kind == "csv":
        source.write_text("text,key,title\nDogs bark.,7,Dogs\nCats sleep.,8,\n")
    elif kind == "json":
        source.write_text('[{"text": "Dogs bark.", "key": 7, "title": "Dogs"}, {"text": "Cats sleep.", "key": 8}]')
    else:
        table = {"title": ["Dogs", None], "text": ["Dogs bark.", "Cats sleep."], "key": [7, 8]}
        parquet.write_table(pyarrow.table(table), source)
    assert quoit("embed", source, "-o", out, "--id", "key", "--keep", "title", "text", *model)[0] == 0
    ids = ["7", "8"] if kind == "csv" else [7, 8]
    assert read(out) == [
        {"id": ids[0], "title": "Dogs", "text": "Dogs bark."},
        {"id": ids[1], "title": "" if kind == "csv" else None, "text": "Cats sleep."},
    ]


def test_columns_of_parquet_keep_their_types(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    """Over two files, more than one batch, and rows that are left out."""
    moment = datetime.datetime(2026, 11, 30, 1, 2, 3, 456789, datetime.UTC)
    count = ROWS_AT_A_TIME + 2
    kept = {
        "when": pyarrow.array([moment] * count, pyarrow.timestamp("ns", "UTC")),
        "price": pyarrow.array([Decimal("1.20")] * count, pyarrow.decimal128(10, 2)),
        "meta": pyarrow.array([{"n": number} for number in range(count)]),
        "key": pyarrow.array(range(count), pyarrow.uint32()),
    }
    texts = ["a"] * count
    texts[1] = texts[ROWS_AT_A_TIME] = None  # type: ignore[call-overload]
    folder, out = tmp_path / "in", tmp_path / "out.parquet"
    folder.mkdir()
    parquet.write_table(pyarrow.table(kept | {"text": texts}), folder / "a.parquet")
    parquet.write_table(pyarrow.table(kept | {"text": texts}).slice(0, 3), folder / "b.parquet")
    command = ["embed", str(folder), "-o", str(out), "--id", "key", "--keep", "when", "price", "meta"]
    assert quoit(*command, "--skip-missing", "--dim", "32", *model)[0] == 0
    expected = [n for n in range(count) if n not in (1, ROWS_AT_A_TIME)] + [0, 2]
    table = parquet.read_table(out)
    assert table["id"].to_pylist() == expected
    assert table["meta"].to_pylist() == [{"n": n} for n in expected]
    assert {name: table.schema.field(name).type for name in ("id", "when", "price")} == {
        "id": pyarrow.uint32(),
        "when": pyarrow.timestamp("ns", "UTC"),
        "price": pyarrow.decimal128(10, 2),
    }


def test_columns_of_parquet_become_json(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    """Dates, times and decimals as Arrow writes them, bytes as base64, dictionaries and views as their values."""
    source, out = tmp_path / "rows.parquet", tmp_path / "out.jsonl"
    moment = pyarrow.array([1], pyarrow.timestamp("ns", "UTC"))
    columns = {
        "text": pyarrow.array(["a"]),
        "when": moment,
        "far": pyarrow.array([1 << 50], pyarrow.timestamp("ms")),
        "span": pyarrow.array([5], pyarrow.duration("ns")),
        "price": pyarrow.array([Decimal("1.20")], pyarrow.decimal128(10, 2)),
        "raw": pyarrow.array([b"\xff"]),
        "word": pyarrow.array(["b"]).dictionary_encode(),
        "view": pyarrow.array(["c"], pyarrow.string_view()),
        "list": pyarrow.array([[1, None]]),
    }
    parquet.write_table(pyarrow.table(columns), source)
    assert quoit("embed", source, "-o", out, "--keep", *columns, *model)[0] == 0
    (row,) = read(out)
    assert row.pop("far")
    assert row == {
        "id": 0,
        "text": "a",
        "when": "1970-01-01 00:00:00.000000001Z",
        "span": "5",
        "price": "1.20",
        "raw": "/w==",
        "word": "b",
        "view": "c",
        "list": [1, None],
    }
    assert quoit("embed", source, "-o", out.with_suffix(".parquet"), "--id", "word", "--keep", "view", *model)[0] == 0
    assert read(out.with_suffix(".parquet")) == [{"id": "b", "view": "c"}]
    nested = pyarrow.table({"text": ["a"], "n": pyarrow.StructArray.from_arrays([moment], ["when"])})
    parquet.write_table(nested, source)
    code, _, report = quoit("embed", source, "-o", out, "--keep", "n", "--restart", *model)
    assert (code, "has the column 'n' of type struct<when: timestamp[ns, tz=UTC]>, which JSON" in report) == (2, True)


@pytest.mark.parametrize("content", [b"[1, 2.5]", b"[9007199254740993, 2]"])
def test_numbers_keep_their_values(quoit: Quoit, model: list[str], tmp_path: Path, content: bytes) -> None:
    """Integers with floats are floats, unless a float cannot hold one of them."""
    for values in (json.loads(content), [*json.loads(content), 0.5]):
        source, out = tmp_path / "rows.jsonl", tmp_path / "out.parquet"
        source.write_text("".join(json.dumps({"text": "a", "n": value}) + "\n" for value in values))
        assert quoit("embed", source, "-o", out, "--keep", "n", *model)[0] == 0
        found = [row["n"] for row in read(out)]
        assert [json.loads(value) if isinstance(value, str) else value for value in found] == values


@pytest.mark.parametrize("suffix", FORMATS)
def test_parts_of_documents_say_where_they_stand(quoit: Quoit, model: list[str], tmp_path: Path, suffix: str) -> None:
    file, out = tmp_path / "page.md", tmp_path / f"out{suffix}"
    file.write_text("# Animals\n\nDogs bark.\n\n## Cats\n\nCats sleep.\n")
    keep = ["text", "title", "file", "line", "page"]
    assert quoit("embed", file, "-o", out, "--keep", *keep, "--vector-column", "embedding", *model)[0] == 0
    parts = [("Animals: Dogs bark.", "Animals", 3), ("Animals: Cats: Cats sleep.", "Animals: Cats", 7)]
    expected = [
        {"id": number, "text": text, "title": title, "file": str(file), "line": line, "page": None}
        for number, (text, title, line) in enumerate(parts)
    ]
    found = [{name: value for name, value in row.items() if name != "embedding"} for row in read(out)]
    assert found == expected
    assert len(vectors(out, "embedding")) == 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_interrupted_run_keeps_the_values_of_both_halves(tmp_path: Path, suffix: str) -> None:
    """Ended after values were written that progress does not count yet, and the lines are cut to it."""
    out = tmp_path / f"out{suffix}"
    columns = OutputColumns(None, ("n",))
    records = [Record(f"text {n}", f"line {n}", b"[%d]" % n) for n in range(10)]
    like = np.empty((0, 3), np.float32)

    def fill(stop: bool, resume: bool) -> None:
        with drafting(out, "job", like, columns, resume=resume) as draft:
            remaining = draft.remaining(records)
            while window := list(islice(remaining, 3)):
                draft.write(np.full((len(window), 3), draft.progress.rows, np.float32), 1, Truncation())
                if stop and draft.progress.rows == 6:
                    with (draft.folder / "kept.jsonl").open("ab") as file:
                        file.write(b"[99]\n")
                    raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fill(stop=True, resume=False)
    assert not out.exists()
    fill(stop=False, resume=True)
    assert read(out) == [{"id": n, "n": n} for n in range(10)]
    assert vectors(out)[:, 0].tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]


def test_other_values_beside_the_same_texts_are_not_gone_on_with(
    quoit: Quoit, model: list[str], tmp_path: Path
) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "a", "key": "old"}\n{"text": null}\n')
    command = ["embed", source, "-o", out, "--id", "key", *model]
    assert quoit(*command)[0] == 2
    source.write_text('{"text": "a", "key": "new"}\n{"text": "b", "key": "c"}\n')
    code, _, report = quoit(*command, "--resume")
    assert (code, "texts, or values kept beside them, are not those" in report) == (2, True)
    assert quoit(*command, "--restart")[0] == 0
    assert read(out) == [{"id": "new"}, {"id": "c"}]


def test_a_draft_without_its_values_is_damaged(tmp_path: Path) -> None:
    columns, like = OutputColumns(None, ("n",)), np.empty((0, 3), np.float32)
    out = tmp_path / "out.jsonl"
    with suppress(KeyboardInterrupt), drafting(out, "job", like, columns) as draft:
        list(draft.remaining([Record("a", "", b"[1]"), Record("b", "", b"[2]")]))
        draft.write(np.zeros((2, 3), np.float32), 1, Truncation())
        raise KeyboardInterrupt
    (tmp_path / ".out.jsonl.partial" / "kept.jsonl").write_text("[1]\n")
    with (
        pytest.raises(InputError, match=r"is damaged: kept.jsonl is too short; use --restart"),
        drafting(out, "job", like, columns, resume=True),
    ):
        pass


def test_other_columns_are_another_run(quoit: Quoit, model: list[str], rows: Path, tmp_path: Path) -> None:
    """A draft that has other values beside its vectors is not gone on with; the same command goes on."""
    out, good = tmp_path / "out.parquet", rows.read_text()
    rows.write_text(good + "{\n")
    command = ["embed", rows, "-o", out, *model]
    assert quoit(*command, "--keep", "year")[0] == 2
    rows.write_text(good)
    for options, code in ((["--keep", "score"], 2), (["--id", "key", "--keep", "year"], 2), (["--keep", "year"], 0)):
        found, _, report = quoit(*command, *options, "--resume")
        assert (found, "a run with another model or other options" in report) == (code, code == 2)
    assert read(out) == [{"id": n, "year": row.get("year")} for n, row in enumerate(ROWS)]


def test_a_lance_dataset_is_replaced_and_no_other_folder_is(
    quoit: Quoit, model: list[str], rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.lance"
    for _ in range(2):
        assert quoit("embed", rows, "-o", out, "--id", "key", *model)[0] == 0
    dataset = lance.dataset(out)
    assert dataset.count_rows() == len(ROWS)
    assert json.loads(dataset.schema.metadata[b"quoit"])["dtype"] == "float32"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    other = tmp_path / "other.lance"
    other.mkdir()
    (other / "mine").touch()
    code, _, report = quoit("embed", rows, "-o", other, *model)
    assert (code, report.count("\n")) == (2, 1)
    assert f"{other} exists and has no {LANCE_VERSIONS} in it, so it is not replaced" in report
    assert (other / "mine").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--keep", "titel"], "has no column 'titel'"),
        (["--id", "nr"], "has no column 'nr'"),
        (["--keep", "id"], "the output would have two columns 'id'; give it as --id"),
        (["--keep", "vector"], "the output would have two columns 'vector'"),
        (["--keep", "title", "title"], "the output would have two columns 'title'"),
        (["--keep", ""], "a column's name is empty"),
        (["--id", ""], "a column's name is empty"),
        (["--vector-column", "id"], "the output would have two columns 'id'"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_wrong_columns_are_refused_before_any_work(
    quoit: Quoit, model: list[str], tmp_path: Path, options: list[str], expected: str, kind: str
) -> None:
    source = tmp_path / f"rows.{kind}"
    if kind == "csv":
        source.write_text("text,id,title\nDogs bark.,7,Dogs\n")
    else:
        parquet.write_table(pyarrow.table({"text": ["Dogs bark."], "id": [7], "title": ["Dogs"]}), source)
    code, out, report = quoit("embed", source, "-o", tmp_path / "out.parquet", *options, *model)
    assert (code, out, report.count("\n")) == (2, "", 1)
    assert expected in report
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("value", ["null", "1.5", "true", '["a"]', None])
def test_an_id_is_a_string_or_an_integer(quoit: Quoit, model: list[str], tmp_path: Path, value: str | None) -> None:
    source = tmp_path / "rows.jsonl"
    key = "" if value is None else f', "key": {value}'
    source.write_text(f'{{"text": "a", "key": "one"}}\n{{"text": "b"{key}}}\n')
    code, _, report = quoit("embed", source, "-o", tmp_path / "out.jsonl", "--id", "key", *model)
    assert code == 2
    assert "rows.jsonl, line 2 has no id in 'key', but" in report


def test_ids_of_two_types_are_strings(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.parquet"
    source.write_text('{"text": "a", "key": "one"}\n{"text": "b", "key": 2}\n')
    assert quoit("embed", source, "-o", out, "--id", "key", *model)[0] == 0
    assert read(out) == [{"id": "one"}, {"id": "2"}]


@pytest.mark.parametrize("suffix", [".parquet", ".lance"])
def test_integers_of_64_bits_are_integers_and_larger_ones_text(
    quoit: Quoit, model: list[str], tmp_path: Path, suffix: str
) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / f"out{suffix}"
    for key, expected in ((2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (2**63, str(2**63)), (10**30, str(10**30))):
        source.write_text(f'{{"text": "a", "key": {key}, "n": {key}}}\n')
        assert quoit("embed", source, "-o", out, "--id", "key", "--keep", "n", *model)[0] == 0
        assert read(out) == [{"id": expected, "n": expected}]


def test_rows_of_parquet_without_an_id_are_refused(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    source = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "key": [1, None], "score": [0.5, 1.0]}), source)
    code, _, report = quoit("embed", source, "-o", tmp_path / "out.parquet", "--id", "key", *model)
    assert (code, f"{source}, row 2 has no id in 'key'" in report) == (2, True)
    code, _, report = quoit("embed", source, "-o", tmp_path / "out.parquet", "--id", "score", *model)
    assert (code, "'score' has values of type double, and an id is a string or an integer" in report) == (2, True)


def test_a_name_that_no_record_has_is_refused_before_any_work(
    quoit: Quoit, model: list[str], rows: Path, tmp_path: Path
) -> None:
    for options in (["--keep", "year", "titel"], ["--id", "titel"]):
        code, _, report = quoit("embed", rows, "-o", tmp_path / "out.jsonl", *options, *model)
        assert code == 2
        assert "rows.jsonl, line 1 has no key 'titel'; its keys are" in report
        assert "no other of the first records has it either" in report


def test_a_repeated_key_within_a_kept_object_is_refused(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"text": "a", "meta": {"text": "x", "text": "y"}}\n')
    code, _, report = quoit("embed", source, "-o", tmp_path / "out.jsonl", "--keep", "meta", *model)
    assert (code, "line 1 has a value among meta that cannot be kept" in report) == (2, True)


@pytest.mark.parametrize("options", [["--keep", "meta.n"], ["--vector-column", "a.b"], ["--vector-column", "_rowid"]])
def test_names_that_lance_cannot_have_are_refused_before_any_work(
    quoit: Quoit, model: list[str], tmp_path: Path, options: list[str]
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"text": "a", "meta": {"n": 1}}\n')
    code, _, report = quoit("embed", source, "-o", tmp_path / "out.lance", *options, *model)
    assert (code, f"Lance cannot have a column '{options[1]}'" in report) == (2, True)
    assert quoit("embed", source, "-o", tmp_path / "out.parquet", *options, *model)[0] == 0


def test_a_dataset_in_the_folder_of_texts_is_no_text(
    quoit: Quoit, model: list[str], rows: Path, tmp_path: Path
) -> None:
    for options in ([], ["--restart"]):
        assert quoit("embed", rows.parent, "-o", rows.parent / "out.lance", *options, *model)[0] == 0
    assert lance.dataset(tmp_path / "out.lance").count_rows() == len(ROWS)


def test_vectors_alone_have_no_columns(quoit: Quoit, model: list[str], rows: Path, tmp_path: Path) -> None:
    code, _, report = quoit("embed", rows, "-o", tmp_path / "out.npy", "--id", "key", *model)
    assert (code, "has vectors alone; write .parquet, .lance or .jsonl" in report) == (2, True)


def test_documents_have_their_own_columns(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    for option, expected in (("--keep", "is txt, which has no column 'key'"), ("--id", "is txt, which has no ids")):
        code, _, report = quoit("embed", tmp_path / "a.txt", "-o", tmp_path / "out.jsonl", option, "key", *model)
        assert (code, expected in report) == (2, True)


def test_parquet_and_others_are_not_kept_together(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "a", "n": 1}\n')
    parquet.write_table(pyarrow.table({"text": ["a"], "n": [1]}), folder / "b.parquet")
    code, _, report = quoit("embed", folder, "-o", tmp_path / "out.jsonl", "--keep", "n", *model)
    assert (code, "has parquet files and others (jsonl, parquet)" in report) == (2, True)


def test_files_whose_columns_differ_are_refused(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    parquet.write_table(pyarrow.table({"text": ["a"], "n": [1]}), folder / "a.parquet")
    for other in ([datetime.date(2026, 1, 1)], [0.5]):
        parquet.write_table(pyarrow.table({"text": ["a"], "n": other}), folder / "b.parquet")
        code, _, report = quoit("embed", folder, "-o", tmp_path / "out.jsonl", "--keep", "n", *model)
        assert (code, "the files have columns of different types" in report) == (2, True)
    parquet.write_table(pyarrow.table({"text": ["a"], "n": [None]}), folder / "b.parquet")
    assert quoit("embed", folder, "-o", tmp_path / "out.jsonl", "--keep", "n", *model)[0] == 0
    assert read(tmp_path / "out.jsonl") == [{"id": 0, "n": 1}, {"id": 1, "n": None}]
