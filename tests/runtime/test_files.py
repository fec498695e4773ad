"""Texts read from every kind of file, and vectors written whole or not at all."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from quoit.files import KINDS, SINKS, VectorWriter, read_texts

from quoit import InputError
from quoit import files as quoit_files

Array = NDArray[Any]
SUFFIXES = sorted(SINKS)


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
        ("null", "has no text in 'text', but None"),
        ('["a"]', "has no text in 'text'"),
        ('{"body": "a"}', "has no text in 'text', but {'body': 'a'}"),
        ('{"text": null}', "has no text in 'text', but None"),
        ('{"text": 5}', "has no text in 'text', but 5"),
        pytest.param("[" * 100_000, "", id="deep"),
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


@pytest.mark.parametrize("content", ["", "id,body\n1,a\n"])
def test_a_missing_csv_column_names_those_that_are_there(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"texts.csv has no column 'text', but (None|\['id', 'body'\]); name one"):
        read(tmp_path / "texts.csv", content)


def test_a_short_csv_row_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 4 has no text in 'text', but None"):
        read(tmp_path / "texts.csv", 'id,text\n1,"a\nb"\n2\n')


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
    with pytest.raises(InputError, match="row 3 has no text in 'text', but None"):
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


@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl", "texts.csv"])
def test_what_is_not_utf8_is_refused(tmp_path: Path, name: str) -> None:
    content = 'text\n"caf\u00e9"\n'.encode("latin-1") if name != "texts.jsonl" else b'"caf\xe9"\n'
    with pytest.raises(InputError, match=f"{name} is not UTF-8: .*; convert it first"):
        read(tmp_path / name, content)


@pytest.mark.parametrize("name", ["texts.docx", "texts", "texts.TXT2", "texts.json"])
def test_an_unknown_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} has the unknown kind .*; name one of txt, jsonl, csv, parquet"):
        read(tmp_path / name, "a\n")


def test_a_named_kind_comes_before_the_suffix(tmp_path: Path) -> None:
    assert read(tmp_path / "texts.log", "a\n", kind="txt") == ["a"]
    assert read(tmp_path / "texts.csv", '"a"\n', kind="jsonl") == ["a"]
    assert read(tmp_path / "TEXTS.TXT", "a\n") == ["a"]
    with pytest.raises(InputError, match="unknown kind 'yaml'"):
        read(tmp_path / "texts.txt", "a\n", kind="yaml")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_missing_file_is_refused(tmp_path: Path, kind: str) -> None:
    for path in (tmp_path / f"absent.{kind}", tmp_path):
        with pytest.raises(InputError, match=f"^{re.escape(str(path))} is no file; check the path"):
            list(read_texts(str(path), kind=kind))


def set_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (None, "a\r\n\n日本語"),
        ("txt", "a\n\n日本語\n"),
        ("jsonl", '"a"\n""\n"日本語"'),
        ("csv", "text,n\na,1\n,2\n日本語,3\n"),
    ],
)
def test_standard_input_is_read_as_utf8(monkeypatch: pytest.MonkeyPatch, kind: str | None, content: str) -> None:
    set_stdin(monkeypatch, content.encode())
    assert list(read_texts("-", kind=kind)) == ["a", "", "日本語"]


def test_standard_input_that_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_stdin(monkeypatch, b"good\n\xff\n")
    with pytest.raises(InputError, match="- is not UTF-8"):
        list(read_texts("-"))


def test_parquet_is_not_read_from_standard_input() -> None:
    with pytest.raises(InputError, match="parquet cannot be read from standard input; name a file"):
        list(read_texts("-", kind="parquet"))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_table(tmp_path / "texts.parquet", text=["a"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for attempt in (lambda: list(read_texts(str(file))), lambda: VectorWriter(tmp_path / "out.parquet")):
        with pytest.raises(InputError, match=r"parquet needs pyarrow .*pip install 'quoit\[parquet\]'"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["texts.parquet"]


def make_vectors(dtype: str, rows: int, dim: int = 5) -> Array:
    generator = np.random.default_rng(rows)
    if dtype.startswith("float"):
        return generator.standard_normal((rows, dim)).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max + 1, (rows, dim)).astype(dtype)


def read_back(file: Path, dtype: str) -> Array:
    """The vectors of a file, after a check of its ids."""
    if file.suffix == ".npy":
        found: Array = np.load(file, allow_pickle=False)
        assert found.dtype == dtype
        return found
    if file.suffix == ".jsonl":
        records = [json.loads(line) for line in file.read_text().splitlines()]
    else:
        table = parquet.read_table(file)
        assert table.schema.field("id").type == pyarrow.int64()
        assert table.schema.field("vector").type.value_type == pyarrow.from_numpy_dtype(np.dtype(dtype))
        records = table.to_pylist()
    assert [record["id"] for record in records] == list(range(len(records)))
    assert all(list(record) == ["id", "vector"] for record in records)
    return np.array([record["vector"] for record in records], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("windows", [[7], [3, 1, 4], [0, 2, 0, 3]], ids=str)
def test_what_is_written_is_read(tmp_path: Path, suffix: str, dtype: str, windows: list[int]) -> None:
    file = tmp_path / f"vectors{suffix}"
    parts = [make_vectors(dtype, rows) for rows in windows]
    with VectorWriter(file) as writer:
        for part in parts:
            writer.write(part)
        assert not file.exists(), "nothing has the name before it is whole"
    np.testing.assert_array_equal(read_back(file, dtype), np.concatenate(parts))
    assert list(tmp_path.iterdir()) == [file]


def test_a_large_npy_file_grows_in_place_and_can_be_mapped(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    parts = [make_vectors("float32", rows, dim=64) for rows in (8192, 8192, 17)]
    with VectorWriter(file) as writer:
        for part in parts:
            writer.write(part)
    np.testing.assert_array_equal(np.load(file, mmap_mode="r"), np.concatenate(parts))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_that_do_not_lie_together_are_written_in_order(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"vectors{suffix}"
    wide = make_vectors("float32", 6, dim=10)
    with VectorWriter(file) as writer:
        writer.write(wide[:, ::2])
        writer.write(np.asfortranarray(wide[:, 5:]))
    np.testing.assert_array_equal(read_back(file, "float32"), np.concatenate([wide[:, ::2], wide[:, 5:]]))


def test_no_vectors_make_a_readable_file(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        with VectorWriter(tmp_path / f"none{suffix}"):
            pass
    assert len(np.load(tmp_path / "none.npy")) == 0
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    table = parquet.read_table(tmp_path / "none.parquet")
    assert (table.num_rows, table.column_names) == (0, ["id", "vector"])


def fail_before(writer: VectorWriter) -> None:
    raise RuntimeError("before the first window")


def fail_after(writer: VectorWriter) -> None:
    writer.write(make_vectors("float32", 3))
    raise RuntimeError("after a window")


def be_interrupted(writer: VectorWriter) -> None:
    writer.write(make_vectors("float32", 3))
    raise KeyboardInterrupt


@pytest.mark.parametrize("fail", [fail_before, fail_after, be_interrupted])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_run_leaves_nothing(tmp_path: Path, suffix: str, fail: Callable[[VectorWriter], None]) -> None:
    with pytest.raises((RuntimeError, KeyboardInterrupt)), VectorWriter(tmp_path / f"vectors{suffix}") as writer:
        fail(writer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_destination_survives_a_failed_run(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"vectors{suffix}"
    file.write_bytes(b"what was there")
    with pytest.raises(RuntimeError), VectorWriter(file) as writer:
        fail_after(writer)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == b"what was there"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_destination_is_replaced_by_a_whole_run(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"vectors{suffix}"
    file.write_bytes(b"what was there")
    vectors = make_vectors("float32", 3)
    with VectorWriter(file) as writer:
        writer.write(vectors)
    np.testing.assert_array_equal(read_back(file, "float32"), vectors)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_destination_that_cannot_be_replaced_leaves_no_draft(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / f"vectors{suffix}"
    folder.mkdir()
    with pytest.raises(InputError, match=re.escape(f"{folder} is a folder")), VectorWriter(folder) as writer:
        writer.write(make_vectors("float32", 3))
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["vectors.txt", "vectors", "vectors.npz", ".npy"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"has the unknown suffix .*; end it in one of .npy, .parquet, .jsonl"):
        VectorWriter(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    with pytest.raises(InputError, match=f"^{re.escape(str(folder))} is no folder that can be written; make it"):
        VectorWriter(folder / "vectors.npy")
    assert not folder.exists()


def test_every_kind_that_is_offered_is_tested() -> None:
    assert sorted(KINDS) == ["csv", "jsonl", "parquet", "txt"]
    assert SUFFIXES == [".jsonl", ".npy", ".parquet"]
    assert quoit_files.STANDARD_INPUT == "-"
