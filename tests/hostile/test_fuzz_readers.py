"""Any bytes as a text file: texts or an InputError; and what was written comes back."""

import codecs
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fuzzing import ANY_STRINGS, JSON_VALUES, TEXTS, damaged, fuzz
from quoit.errors import InputError
from quoit.files.readers import read_texts

COLUMNS = TEXTS.filter(lambda name: name != "")
LINES = [
    b"text",
    b'"text"',
    b"id,text",
    b'{"text": "a"}',
    b'{"text": 5}',
    b'"a"',
    b'"\\ud800"',
    b"null",
    b"1e999",
    b"[",
]
BITS = [
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b'"',
    b'""',
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xed\xa0\x80",
    b"{",
    b"\xe2\x80\xa8",
]
CONTENTS = st.binary(max_size=60) | st.lists(st.sampled_from(LINES + BITS) | st.binary(max_size=4), max_size=14).map(
    b"".join
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def read(file: Path, content: bytes, column: str = "text") -> list[str] | None:
    """The texts of such a file, or None where it is refused, by its name."""
    file.write_bytes(content)
    try:
        texts = list(read_texts(str(file), column=column))
    except InputError as error:
        assert str(file) in str(error)  # noqa: PT017
        return None
    assert all(isinstance(text, str) for text in texts)
    return texts


def decoded(content: bytes) -> str | None:
    """The text of a file, None where it is no UTF-8."""
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        return None


@fuzz(700)
@given(CONTENTS)
def test_txt_is_its_lines_or_no_utf8(folder: Path, content: bytes) -> None:
    found = read(folder / "a.txt", content)
    text = decoded(content)
    if text is None:
        assert found is None
        return
    lines = text.split("\n")
    expected = [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
    assert found == expected


@fuzz(700)
@given(CONTENTS)
def test_jsonl_gives_texts_or_is_refused(folder: Path, content: bytes) -> None:
    found = read(folder / "a.jsonl", content)
    if found is not None:
        assert len(found) == sum(1 for line in (decoded(content) or "").split("\n") if line.strip())


@fuzz(700)
@given(CONTENTS)
def test_csv_gives_texts_or_is_refused(folder: Path, content: bytes) -> None:
    found = read(folder / "a.csv", content)
    if found:
        assert b"text" in content


@fuzz(500)
@given(CONTENTS | CONTENTS.map(lambda content: b"[" + content + b"]"))
def test_json_gives_texts_or_is_refused(folder: Path, content: bytes) -> None:
    found = read(folder / "a.json", content)
    if found is not None:
        values = json.loads(decoded(content) or "")
        assert found == [value["text"] if isinstance(value, dict) else value for value in values]


TEXT_BYTES = "".join(f"text {number} é中\n" for number in range(60)).encode()


@fuzz(500)
@given(damaged(gzip.compress(TEXT_BYTES)) | damaged(gzip.compress(TEXT_BYTES, 0)))
def test_a_damaged_gzip_file_gives_what_was_packed_or_is_refused(folder: Path, content: bytes) -> None:
    """The checksum is at the end, so that nothing else can pass."""
    found = read(folder / "a.txt.gz", content)
    assert found in (None, TEXT_BYTES.decode().splitlines(), [])


@fuzz(500)
@given(st.lists(JSON_VALUES | TEXTS | st.builds(lambda text: {"text": text}, JSON_VALUES | TEXTS), max_size=4))
def test_any_json_values_are_texts_or_refused(folder: Path, values: list[Any]) -> None:
    found = read(folder / "a.jsonl", "".join(json.dumps(value) + "\n" for value in values).encode())
    texts = [value.get("text") if isinstance(value, dict) else value for value in values]
    expected = texts if all(isinstance(text, str) for text in texts) else None
    assert found == expected
    assert read(folder / "a.json", json.dumps(values, indent=1).encode()) == expected


@fuzz(400)
@given(st.lists(ANY_STRINGS, max_size=6), COLUMNS, st.booleans())
def test_jsonl_gives_back_what_was_written(folder: Path, texts: list[str], column: str, escaped: bool) -> None:
    """But not lone surrogates, which only an escape can write; and an array of the same gives the same."""
    if not escaped:
        texts = [text.encode(errors="replace").decode() for text in texts]
    lines = [json.dumps({column: text}, ensure_ascii=escaped) for text in texts]
    expected = None if any("\ud800" <= character <= "\udfff" for character in "".join(texts)) else texts
    assert read(folder / "a.jsonl", "".join(f"{line}\n" for line in lines).encode(), column) == expected
    assert read(folder / "a.json", f"[{', '.join(lines)}]".encode(), column) == expected


@fuzz(400)
@given(st.lists(TEXTS, max_size=6), COLUMNS)
def test_csv_gives_back_what_was_written(folder: Path, texts: list[str], column: str) -> None:
    content = io.StringIO(newline="")
    writer = csv.writer(content, quoting=csv.QUOTE_ALL)
    writer.writerows([[column, column + "2"], *([text, "x"] for text in texts)])
    assert read(folder / "a.csv", content.getvalue().encode("utf-8-sig"), column) == texts
    assert read(folder / "a.csv.gz", gzip.compress(content.getvalue().encode()), column) == texts


@fuzz(300)
@given(st.lists(TEXTS, max_size=6), COLUMNS, st.sampled_from(["none", "snappy", "zstd"]), st.booleans())
def test_parquet_gives_back_what_was_written(
    folder: Path, texts: list[str], column: str, compression: str, dictionary: bool
) -> None:
    content = parquet_of({column: texts, column + "2": texts}, compression=compression, use_dictionary=dictionary)
    assert read(folder / "a.parquet", content, column) == texts


def parquet_of(columns: dict[str, Any], **options: Any) -> bytes:
    """A parquet file."""
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink, **options)
    content: bytes = sink.getvalue().to_pybytes()
    return content


SOUND = parquet_of({"text": [f"text {i} é中" for i in range(40)]}, compression="none")
SMALL = parquet_of({"text": ["ab", "é"]}, compression="none", use_dictionary=False, write_statistics=False)


@fuzz(600)
@given(damaged(SOUND) | damaged(SMALL) | CONTENTS)
def test_damaged_parquet_gives_texts_or_is_refused(folder: Path, content: bytes) -> None:
    read(folder / "a.parquet", content)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], pyarrow.int64()),
        ([None, "a"], pyarrow.string()),
        ([b"\xff"], pyarrow.binary()),
        ([2**62], pyarrow.timestamp("ms")),
        ([-(2**62)], pyarrow.timestamp("us", "UTC")),
        ([2**31 - 1], pyarrow.date32()),
        ([["a"]], pyarrow.list_(pyarrow.string())),
        ([{"other": "a"}], pyarrow.struct({"other": pyarrow.string()})),
        ([0.5], pyarrow.float64()),
    ],
    ids=str,
)
def test_a_parquet_column_of_another_type_is_refused(folder: Path, values: list[Any], kind: Any) -> None:
    """Times beyond Python's calendar among them."""
    times = pyarrow.types.is_temporal(kind)
    column = (
        pyarrow.array(values, pyarrow.int32() if kind == pyarrow.date32() else pyarrow.int64()).cast(kind)
        if (times)
        else pyarrow.array(values, kind)
    )
    assert read(folder / "a.parquet", parquet_of({"text": column})) is None


@pytest.mark.parametrize("depth", [900, 990, 5_000, 100_000])
def test_deep_nesting_in_jsonl_is_refused(folder: Path, depth: int) -> None:
    assert read(folder / "a.jsonl", b"[" * depth + b"]" * depth) is None


def test_text_bytes_in_parquet_that_are_no_utf8_are_refused(folder: Path) -> None:
    """As other writers than pyarrow's may leave them."""
    assert SMALL.count("é".encode()) == 1
    assert read(folder / "a.parquet", SMALL.replace("é".encode(), b"\xff\xfe")) is None
