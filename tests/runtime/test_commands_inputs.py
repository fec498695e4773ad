"""What commands do with files of texts: folders, pipes, blank lines, missing texts, no texts at all."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from command_line import PATIENCE, Outcome, Quoit, read_jsonl
from quoit import Embedder
from quoit.artifact import Artifact
from quoit.search import cache_key

QUERY = "What is gravity?"

RANKINGS = pytest.mark.parametrize("command", ["rerank", "similarity", "search"])


@pytest.fixture
def rank(quoit: Quoit, model: list[str], judge: list[str]) -> Callable[..., Outcome]:
    """Runs one of the three commands that rank."""

    def run(command: str, *arguments: object) -> Outcome:
        if command == "rerank":
            return quoit(command, *arguments, "--query", QUERY, *judge)
        return quoit(command, QUERY, *arguments, *model)

    return run


def ids_and_vectors(file: Path) -> tuple[list[int], Any]:
    """What `quoit embed` wrote."""
    records = read_jsonl(file) if file.suffix == ".jsonl" else parquet.read_table(file).to_pylist()
    return [record["id"] for record in records], np.array([record["vector"] for record in records], np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts in three files, one of them gzip, and files that are no texts."""
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.txt").write_text("Gravity is a force.\n\nCats sleep.\n")
    (folder / "sub/c.json.gz").write_bytes(gzip.compress(b'[{"text": "Apples fall."}, ""]'))
    (folder / "a.csv").write_text("id,text\n1,Dogs bark.\n")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("never read\n")
    return folder


FOLDER_TEXTS = ["Dogs bark.", "Gravity is a force.", "", "Cats sleep.", "Apples fall.", ""]


def test_embed_takes_a_folder_in_the_order_of_its_paths(
    quoit: Quoit, model: list[str], embedder: Embedder, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "vectors.npy"
    assert quoit("embed", folder, "-o", out, *model)[0] == 0
    np.testing.assert_array_equal(np.load(out), embedder.encode_document(FOLDER_TEXTS))


def test_embed_of_a_folder_goes_on_in_the_same_order(
    quoit: Quoit, model: list[str], embedder: Embedder, folder: Path
) -> None:
    """The output lies in the folder itself, and is no input of the run that goes on."""
    out, bad = folder / "a.jsonl", folder / "sub/d.jsonl"
    bad.write_text("5\n")
    code, _, report = quoit("embed", folder, "-o", out, *model)
    assert code == 2
    assert report == (
        f"quoit: {bad}, line 1 has no text in 'text', but 5; name another with --column, or correct it; 6 texts are "
        "done, and the same command with --resume goes on\n"
    )
    out.write_text('"an older output"\n')
    bad.write_text('"Rain."\n')
    code, _, report = quoit("embed", folder, "-o", out, "--resume", *model)
    assert code == 0
    assert "7 vectors, 6 of them before" in report
    ids, vectors = ids_and_vectors(out)
    assert ids == list(range(7))
    np.testing.assert_array_equal(vectors, embedder.encode_document([*FOLDER_TEXTS, "Rain."]))


@RANKINGS
def test_a_ranking_of_a_folder_names_each_texts_file(
    rank: Callable[..., Outcome], folder: Path, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "ranking.jsonl"
    code, printed, report = rank(command, folder, "-o", out)
    assert code == 0
    head, *rows = printed.splitlines()
    assert head.split()[-3:] == ["file", "item", "text"]
    found = {(record["file"], record["index"]): record["text"] for record in read_jsonl(out)}
    assert found == {
        (str(folder / "a.csv"), 0): "Dogs bark.",
        (str(folder / "b.txt"), 0): "Gravity is a force.",
        (str(folder / "b.txt"), 2): "Cats sleep.",
        (str(folder / "sub/c.json.gz"), 0): "Apples fall.",
        (str(folder / "sub/c.json.gz"), 1): "",
    }
    assert any(f"{folder / 'b.txt'}     3  Cats sleep." in row for row in rows), "the item is the line"
    assert "5 texts" in report
    if command == "search":
        assert "5 texts of 3 files in" in report


def test_search_in_a_folder_caches_each_file_for_itself(
    quoit: Quoit, model: list[str], embedder: Embedder, folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "vectors"
    assert quoit("search", QUERY, folder, folder / "b.txt", "--cache", cache, *model)[0] == 0
    files = [["Dogs bark."], ["Gravity is a force.", "Cats sleep."], ["Apples fall.", ""]]
    expected = {f"{cache_key(embedder, texts)}.npz" for texts in files}
    assert {file.name for file in cache.iterdir()} == expected


def test_a_ranking_written_into_its_folder_is_no_text_of_it(rank: Callable[..., Outcome], folder: Path) -> None:
    for _ in range(2):
        assert rank("search", folder, "-o", folder / "found.jsonl")[0] == 0
        assert len(read_jsonl(folder / "found.jsonl")) == 5


@RANKINGS
def test_the_output_does_not_replace_the_input(
    rank: Callable[..., Outcome], quoit: Quoit, model: list[str], tmp_path: Path, command: str
) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('"a"\n')
    (tmp_path / "link.jsonl").symlink_to(file)
    for name in (file, tmp_path / "link.jsonl", tmp_path / "." / "texts.jsonl"):
        code, _, report = rank(command, name, "-o", file)
        assert code == 2
        assert report == f"quoit: {file} is the output, and the one file to read; name another with -o\n"
    assert quoit("embed", file, "-o", file, *model)[0] == 2
    assert file.read_text() == '"a"\n'


@RANKINGS
def test_blank_lines_of_txt_are_not_ranked_and_count_as_lines(
    rank: Callable[..., Outcome], tmp_path: Path, command: str
) -> None:
    file, out = tmp_path / "texts.txt", tmp_path / "ranking.jsonl"
    file.write_text("\n \na\n\t\r\n\nb\n\n")
    code, _, report = rank(command, file, "-o", out)
    assert code == 0
    assert {record["index"]: record["text"] for record in read_jsonl(out)} == {2: "a", 5: "b"}
    assert "left out" not in report
    (tmp_path / "blank.txt").write_text("\n\n")
    assert rank(command, tmp_path / "blank.txt", "-o", out)[0] == 0
    assert read_jsonl(out) == []


def test_embed_keeps_blank_lines(quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path) -> None:
    file, out = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    file.write_text("a\n\n \nb\n")
    assert quoit("embed", file, "-o", out, *model)[0] == 0
    np.testing.assert_array_equal(np.load(out), embedder.encode_document(["a", "", " ", "b"]))


MISSING = {
    "a.jsonl": '{"text": null}\n"one"\nnull\n{"text": "two"}\n{"id": 5}\n',
    "a.json": '[null, "one", {"text": null}, {"text": "two"}, null]',
    "a.csv": "id,text\n0\n1,one\n2\n3,two\n4\n",
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", [*MISSING, "a.parquet"])
def test_embed_gives_what_it_keeps_the_number_of_its_record(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path, name: str, suffix: str
) -> None:
    file, out = tmp_path / name, tmp_path / f"vectors{suffix}"
    if name == "a.parquet":
        parquet.write_table(pyarrow.table({"text": [None, "one", None, "two", None]}), file)
    else:
        file.write_text(MISSING[name])
    code, _, report = quoit("embed", file, "-o", out, *model)
    assert code == 2
    assert re.search(
        r"(line|row) [12].* has (no text|null|no key) .*'text'.* leave such records out with --skip", report
    )
    code, _, report = quoit("embed", file, "-o", out, "--skip-missing", *model)
    assert code == 0
    first, second = report.splitlines()
    assert ": 2 vectors, of " in first
    assert re.fullmatch(r"3 records without a text were left out, the first at .*(line|row) [12](, item 1)?", second)
    ids, vectors = ids_and_vectors(out)
    assert ids == [1, 3]
    np.testing.assert_array_equal(vectors, embedder.encode_document(["one", "two"]))


def test_embed_of_a_folder_numbers_the_records_of_all_files(
    quoit: Quoit, model: list[str], folder: Path, tmp_path: Path
) -> None:
    (folder / "a.csv").write_text("id,text\n1\n2,Dogs bark.\n")
    out = tmp_path / "vectors.jsonl"
    assert quoit("embed", folder, "-o", out, "--skip-missing", *model)[0] == 0
    assert ids_and_vectors(out)[0] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_met_a_missing_text_goes_on_without_it(
    quoit: Quoit, model: list[str], embedder: Embedder, tmp_path: Path
) -> None:
    """Both before and after the interruption something is left out."""
    file, out = tmp_path / "a.jsonl", tmp_path / "vectors.parquet"
    file.write_text('"one"\nnull\n"two"\n5\n')
    assert quoit("embed", file, "-o", out, *model)[0] == 2
    assert quoit("embed", file, "-o", out, "--skip-missing", "--resume", *model)[0] == 2
    file.write_text('"one"\nnull\n"two"\nnull\n"three"\nnull\n')
    code, _, report = quoit("embed", file, "-o", out, "--skip-missing", "--resume", *model)
    assert code == 0
    assert "3 vectors, 2 of them before" in report
    assert report.endswith(f"3 records without a text were left out, the first at {file}, line 2\n")
    ids, vectors = ids_and_vectors(out)
    assert ids == [0, 2, 4]
    np.testing.assert_array_equal(vectors, embedder.encode_document(["one", "two", "three"]))


def test_rows_are_not_left_out_of_a_file_without_ids(quoit: Quoit, model: list[str], tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('"one"\nnull\n')
    code, _, report = quoit("embed", file, "-o", tmp_path / "v.npy", "--skip-missing", *model)
    assert code == 2
    assert report.endswith("v.npy has no ids that say which; write .jsonl or .parquet\n")
    assert list(tmp_path.iterdir()) == [file]


@RANKINGS
def test_a_ranking_without_missing_texts_keeps_their_numbers(
    rank: Callable[..., Outcome], tmp_path: Path, command: str
) -> None:
    file, out = tmp_path / "a.jsonl", tmp_path / "ranking.jsonl"
    file.write_text(MISSING["a.jsonl"])
    code, printed, report = rank(command, file)
    assert (code, printed) == (2, "")
    assert report.startswith(f"quoit: {file}, line 1 has null in 'text'; correct it, name another with")
    code, _, report = rank(command, file, "--skip-missing", "-o", out)
    assert code == 0
    assert report.endswith(f"\n3 records without a text were left out, the first at {file}, line 1\n")
    assert {record["index"]: record["text"] for record in read_jsonl(out)} == {1: "one", 3: "two"}


@pytest.mark.parametrize("dtype", ["float32", "binary"])
@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_embed_of_no_texts_has_the_columns_of_some(
    quoit: Quoit, model: list[str], tmp_path: Path, suffix: str, dtype: str
) -> None:
    (tmp_path / "none.txt").write_text("")
    (tmp_path / "some.txt").write_text("a\n")
    none, some = tmp_path / f"none{suffix}", tmp_path / f"some{suffix}"
    for out in (none, some):
        assert quoit("embed", out.with_suffix(".txt"), "-o", out, "--dim", "32", "--dtype", dtype, *model)[0] == 0
    if suffix == ".npy":
        assert np.load(none).shape == (0, np.load(some).shape[1])
        assert np.load(none).dtype == np.load(some).dtype
    elif suffix == ".jsonl":
        assert none.read_bytes() == b""
    else:
        assert parquet.read_table(none).num_rows == 0
        assert parquet.read_schema(none).names == ["id", "vector"]
        assert parquet.read_schema(none).equals(parquet.read_schema(some))


@pytest.mark.parametrize("content", ["", "\n\n"], ids=["empty", "blank"])
@pytest.mark.parametrize("command", ["rerank", "similarity", "search", "search --rerank"])
def test_a_ranking_of_no_texts_has_the_columns_of_some(
    rank: Callable[..., Outcome], rerank_artifact: Artifact, tmp_path: Path, command: str, content: str
) -> None:
    name, *options = command.split()
    judge = [rerank_artifact.folder] if options else []
    (tmp_path / "none.txt").write_text(content)
    (tmp_path / "some.txt").write_text("a\n")
    for out in (tmp_path / "none.parquet", tmp_path / "some.parquet"):
        assert rank(name, out.with_suffix(".txt"), *options, *judge, "-o", out)[0] == 0
    none, some = (parquet.read_schema(tmp_path / f"{file}.parquet") for file in ("none", "some"))
    figures = {"rerank": ["p_yes"], "search --rerank": ["p_yes", "cosine"]}.get(command, ["cosine"])
    assert none.names == ["rank", "file", "index", *figures, "text"]
    assert none.equals(some)
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="process substitution is the shell's")
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_embed_reads_what_the_shell_substitutes(
    model: list[str], embedder: Embedder, tmp_path: Path, kind: str
) -> None:
    file, out = tmp_path / "texts.gz", tmp_path / "vectors.npy"
    content = "one\ntwo\n" if kind == "txt" else '"one"\n"two"\n'
    file.write_bytes(gzip.compress(content.encode()))
    form = [] if kind == "txt" else ["--input-format", kind]
    command = f'"$0" -m quoit embed <(gzip -dc {file}) -o {out} "$@"'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, *model, *form], capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(out), embedder.encode_document(["one", "two"]))


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_embed_reads_gzip_from_standard_input(model: list[str], embedder: Embedder, tmp_path: Path, path: str) -> None:
    out = tmp_path / "vectors.npy"
    command = [sys.executable, "-m", "quoit", "embed", path, "-o", str(out), "--input-format", "csv", *model]
    done = subprocess.run(
        [*command, "--delimiter", r"\t"],
        input=gzip.compress(b"id\ttext\n1\tone\n"),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(out), embedder.encode_document(["one"]))


def test_standard_input_that_is_closed_is_one_line(model: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quoit", "embed", "-o", str(tmp_path / "v.npy"), *model]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False, preexec_fn=lambda: os.close(0))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"quoit: standard input is closed; name a file, or pipe texts in\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--delimiter", "ab"], ["--delimiter", ";", "--input-format", "txt"]])
def test_a_wrong_delimiter_is_refused_before_the_model_is_opened(
    quoit: Quoit, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    absent = ["-m", tmp_path / "absent"]
    code, _, report = quoit("embed", tmp_path / "a.csv", "-o", tmp_path / "v.npy", *arguments, *absent)
    assert code == 2
    assert report.startswith("quoit: --delimiter ")
