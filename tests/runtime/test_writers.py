"""Result files: refused before any work, whole or not there, and what was written is what is read."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from quoit import Embedder, InputError
from quoit.artifact import Artifact
from quoit.cli.main import main
from quoit.files.atomic import replacing
from quoit.files.kept import RowNumbers
from quoit.files.partial_output import SUFFIXES
from quoit.files.writers import RECORD_SUFFIXES, VECTOR_WRITERS, check_destination, write_records

RECORDS = [{"rank": 1, "text": "日本語 \u2028 a\nb", "score": 0.5}, {"rank": 2, "text": "", "score": 0.25}]
COLUMNS = {"rank": int, "text": str, "score": float}


@pytest.mark.parametrize("name", ["vectors.txt", "vectors", "vectors.npz", ".npy"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"has the unknown suffix .*; end it in one of .npy, .jsonl, .parquet, .lance"):
        check_destination(tmp_path / name, SUFFIXES)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "vectors.npy"
    folder.mkdir()
    with pytest.raises(InputError, match=f"^{re.escape(str(folder))} is a folder; name a file"):
        check_destination(folder, SUFFIXES)


@pytest.mark.parametrize("target", ["/dev/null", "{tmp}/pipe"])
def test_what_a_file_would_replace_and_must_not_is_refused(tmp_path: Path, target: str) -> None:
    """Renaming a file over /dev/null would leave the machine without it."""
    os.mkfifo(tmp_path / "pipe")
    link = tmp_path / "vectors.npy"
    link.symlink_to(target.format(tmp=tmp_path))
    with pytest.raises(InputError, match=f"^{re.escape(str(link))} is a device or a pipe, which a file would replace"):
        check_destination(link, SUFFIXES)


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "vectors.npy"
    link.symlink_to("vectors.npy")
    with pytest.raises(InputError, match=f"^{re.escape(str(link))} is a symbolic link that leads back to itself"):
        check_destination(link, SUFFIXES)


def test_a_link_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "vectors.npy"
    link.symlink_to(tmp_path / "absent" / "vectors.npy")
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / 'absent'))} is no folder that can be written"):
        check_destination(link, SUFFIXES)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_and_stays(tmp_path: Path, there: bool) -> None:
    """Also one that leads to another link, and one to a file that is not there yet."""
    real, between, link = tmp_path / "data" / "real", tmp_path / "between", tmp_path / "links" / "link"
    real.parent.mkdir()
    link.parent.mkdir()
    if there:
        real.write_text("what was there")
    between.symlink_to("data/real")
    link.symlink_to("../between")
    with replacing(link) as draft:
        assert draft.parent == real.parent, "on the same disk"
        draft.write_text("new")
    assert real.read_text() == "new"
    assert link.is_symlink()
    assert between.is_symlink()
    assert [file.name for file in (*real.parent.iterdir(), *link.parent.iterdir())] == ["real", "link"]


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    with pytest.raises(InputError, match=f"^{re.escape(str(folder))} is no folder that can be written; make it"):
        check_destination(folder / "vectors.npy", SUFFIXES)
    assert not folder.exists()


def test_without_pyarrow_parquet_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"parquet needs pyarrow .*pip install 'quoit\[parquet\]'"):
        check_destination(tmp_path / "out.parquet", SUFFIXES)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    for suffix in RECORD_SUFFIXES:
        write_records(tmp_path / f"records{suffix}", RECORDS, COLUMNS)
    lines = (tmp_path / "records.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines if line] == RECORDS
    assert parquet.read_table(tmp_path / "records.parquet").to_pylist() == RECORDS
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", RECORD_SUFFIXES)
def test_no_records_make_a_readable_file(tmp_path: Path, suffix: str) -> None:
    file, filled = tmp_path / f"none{suffix}", tmp_path / f"some{suffix}"
    write_records(file, [], COLUMNS)
    write_records(filled, RECORDS, COLUMNS)
    if suffix == ".jsonl":
        assert file.read_bytes() == b""
        return
    assert parquet.read_table(file).num_rows == 0
    assert parquet.read_schema(file).names == ["rank", "text", "score"]
    assert parquet.read_schema(file).equals(parquet.read_schema(filled))


def test_a_file_that_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("what was there")

    def fail_halfway() -> None:
        with replacing(file) as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert file.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0.9), ("float16", 0.95), ("int8", 1.05), ("uint8", 1.05)])
def test_vectors_in_parquet_take_less_than_their_own_size(tmp_path: Path, dtype: str, most: float) -> None:
    """Of random directions; 9,000 rows are more than one row group."""
    vectors = np.random.default_rng(0).normal(size=(9000, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = (vectors * 127 if dtype in ("int8", "uint8") else vectors).astype(dtype)
    file = tmp_path / "vectors.parquet"
    VECTOR_WRITERS[".parquet"](file, found, RowNumbers(np.arange(len(found)), None), {}, ["id", "vector"])
    assert file.stat().st_size < most * found.nbytes + 100_000
    table = parquet.read_table(file)
    np.testing.assert_array_equal(table["vector"].combine_chunks().flatten().to_numpy().reshape(found.shape), found)


def test_a_parquet_file_says_what_its_vectors_are(tmp_path: Path, byte_artifact: Artifact) -> None:
    texts, file = tmp_path / "texts.txt", tmp_path / "vectors.parquet"
    texts.write_text("one\ntwo\n")
    model = ["-m", str(byte_artifact.folder), "--provider", "cpu", "--precision", "fp32"]
    assert main(["embed", str(texts), "-o", str(file), *model, "--dim", "40", "--instruction", "Find ß"]) == 0
    about = json.loads(parquet.read_schema(file).metadata[b"quoit"])
    embedder = Embedder(byte_artifact, precision="fp32", provider="cpu")
    prompt = embedder.query_prompt("Find ß")
    assert about == {
        "model": byte_artifact.manifest.source.id,
        "revision": None,
        "precision": "fp32",
        "dim": 40,
        "dtype": "float32",
        "normalize": True,
        "ranges": None,
        "prompt": prompt,
        "fingerprint": embedder.fingerprint(prompt),
    }
