"""Vectors of a bulk run: whole under their name or not there, and taken up again after an interruption."""

import gc
import json
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from quoit import InputError
from quoit.files.atomic import replacing
from quoit.files.partial_output import PROGRESS, ROWS, SUFFIXES, Draft, Progress, drafting, is_finished
from quoit.files.readers import Record
from quoit.text.tokenizer import Truncation

Array = NDArray[Any]
Texts = list[str]
CUT = Truncation(1, 2, 2)
DIM = 5
TEXTS = [f"text {number}" for number in range(11)]
WINDOW = 3
FILES = [suffix for suffix in SUFFIXES if suffix != ".lance"]
"""The outputs that are one file; Lance has tests of its own below."""


def make_vectors(texts: Texts, dtype: str = "float32", dim: int = DIM) -> Array:
    """Some vectors that depend on each text alone."""
    rows = [np.random.default_rng(list(text.encode())).integers(-100, 100, dim) for text in texts]
    return (np.stack(rows) if rows else np.empty((0, dim))).astype(dtype)


def fill(draft: Draft, texts: Texts | Iterator[str], dtype: str = "float32", stop_after: int | None = None) -> None:
    """What a run does: a window of vectors at a time, until `stop_after` windows are written."""
    window: Texts = []
    windows = 0
    for text in draft.remaining(Record(text, "") for text in texts):
        window.append(text)
        if len(window) == WINDOW:
            draft.write(make_vectors(window, dtype), 10, CUT)
            window = []
            windows += 1
            if windows == stop_after:
                raise RuntimeError("stopped")
    if window:
        draft.write(make_vectors(window, dtype), 10, CUT)


def run(file: Path, texts: Texts = TEXTS, *, resume: bool = False, restart: bool = False, **options: Any) -> Draft:
    """A whole run into a file."""
    like = make_vectors([], options.get("dtype", "float32"))
    with drafting(file, options.pop("job", "job"), like, resume=resume, restart=restart) as draft:
        fill(draft, texts, **options)
    return draft


def stop(file: Path, windows: int = 2, **options: Any) -> Path:
    """A run that ends in an error after some windows; -> its draft's folder."""
    with pytest.raises(RuntimeError, match="stopped"):
        run(file, stop_after=windows, **options)
    return file.with_name(f".{file.name}.partial")


def read_back(file: Path, dtype: str = "float32") -> Array:
    """The vectors of a file, after a check of its ids."""
    if file.suffix == ".npy":
        found: Array = np.load(file, allow_pickle=False)
        assert found.dtype == dtype
        return found
    if file.suffix == ".jsonl":
        records = [json.loads(line) for line in file.read_text().splitlines()]
    else:
        table = lance.dataset(file).to_table() if file.suffix == ".lance" else parquet.read_table(file)
        assert table.schema.field("id").type == pyarrow.int64()
        assert table.schema.field("vector").type.value_type == pyarrow.from_numpy_dtype(np.dtype(dtype))
        records = table.to_pylist()
    assert [record["id"] for record in records] == list(range(len(records)))
    assert all(list(record) == ["id", "vector"] for record in records)
    return np.array([record["vector"] for record in records], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path: Path, suffix: str, dtype: str) -> None:
    file = tmp_path / f"vectors{suffix}"
    with drafting(file, "job", make_vectors([], dtype), resume=False) as draft:
        fill(draft, TEXTS, dtype)
        assert not file.exists(), "nothing has the name before it is whole"
    np.testing.assert_array_equal(read_back(file, dtype), make_vectors(TEXTS, dtype))
    assert list(tmp_path.iterdir()) == [file]
    assert draft.progress.rows == len(TEXTS)
    assert draft.progress.tokens == 4 * 10
    assert draft.progress.truncation == Truncation(4, 8, 2)


def test_an_npy_file_can_be_mapped(tmp_path: Path) -> None:
    run(tmp_path / "vectors.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy", mmap_mode="r"), make_vectors(TEXTS))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_that_do_not_lie_together_are_written_in_order(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"vectors{suffix}"
    wide = make_vectors(TEXTS, dim=2 * DIM)
    with drafting(file, "job", make_vectors([]), resume=False) as draft:
        draft.write(wide[:, ::2], 0, Truncation())
        draft.write(np.asfortranarray(wide[:, DIM:]), 0, Truncation())
    np.testing.assert_array_equal(read_back(file), np.concatenate([wide[:, ::2], wide[:, DIM:]]))


def test_no_vectors_make_a_file_of_the_right_width(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        run(tmp_path / f"none{suffix}", [])
    assert np.load(tmp_path / "none.npy").shape == (0, DIM)
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    table = parquet.read_table(tmp_path / "none.parquet")
    assert (table.num_rows, table.column_names) == (0, ["id", "vector"])
    assert table.schema.field("vector").type.list_size == DIM


def fail_before(draft: Draft) -> None:
    raise RuntimeError("before the first window")


def be_interrupted(draft: Draft) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("fail", [fail_before, be_interrupted])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_run_that_fails_before_its_first_window_leaves_nothing(
    tmp_path: Path, suffix: str, fail: Callable[[Draft], None]
) -> None:
    file = tmp_path / f"vectors{suffix}"
    with (
        pytest.raises((RuntimeError, KeyboardInterrupt)),
        drafting(file, "job", make_vectors([]), resume=False) as draft,
    ):
        fail(draft)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_run_that_fails_later_leaves_its_draft_alone(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"vectors{suffix}"
    folder = stop(file)
    assert list(tmp_path.iterdir()) == [folder]
    assert sorted(path.name for path in folder.iterdir()) == [PROGRESS, ROWS]


@pytest.mark.parametrize("suffix", FILES)
def test_an_existing_destination_survives_a_failed_run(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"vectors{suffix}"
    file.write_bytes(b"what was there")
    stop(file)
    assert file.read_bytes() == b"what was there"
    run(file, resume=True)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("windows", [1, 2, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_resumed_run_gives_the_bytes_of_an_undisturbed_one(tmp_path: Path, suffix: str, windows: int) -> None:
    file, undisturbed = tmp_path / f"vectors{suffix}", tmp_path / f"undisturbed{suffix}"
    run(undisturbed)
    stop(file, windows)
    draft = run(file, resume=True)
    assert draft.resumed.rows == windows * WINDOW
    assert draft.progress.tokens == 4 * 10
    if suffix == ".lance":  # its files have names that are drawn by chance
        np.testing.assert_array_equal(read_back(file), read_back(undisturbed))
    else:
        assert file.read_bytes() == undisturbed.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([file, undisturbed])


@pytest.mark.parametrize("windows_before", [0, 2])
def test_ctrl_c_just_after_rows_were_counted_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows_before: int
) -> None:
    """progress.json has its name, and the process does not know yet."""
    file = tmp_path / "vectors.npy"
    if windows_before:
        stop(file, windows_before)

    @contextmanager
    def interrupted_after(*arguments: Any) -> Iterator[Path]:
        with replacing(*arguments) as draft:
            yield draft
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("quoit.files.partial_output.replacing", interrupted_after)
        with pytest.raises(KeyboardInterrupt) as raised:
            run(file, resume=True)
    rows = (windows_before + 1) * WINDOW
    assert raised.value.__notes__ == [f"{rows} texts are done, and the same command with --resume goes on"]
    assert run(file, resume=True).resumed.rows == rows
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))


def test_a_run_may_be_resumed_several_times(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    for _ in range(3):
        stop(file, 1, resume=True)
    run(file, resume=True)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))


def test_resuming_where_nothing_was_begun_is_a_run_like_any(tmp_path: Path) -> None:
    draft = run(tmp_path / "vectors.npy", resume=True)
    assert draft.resumed == Progress("job")
    np.testing.assert_array_equal(read_back(tmp_path / "vectors.npy"), make_vectors(TEXTS))


@pytest.mark.parametrize("job", ["job", "another job"])
def test_a_draft_is_discarded_only_where_that_was_asked_for(tmp_path: Path, job: str) -> None:
    file = tmp_path / "vectors.npy"
    folder = stop(file)
    before = (folder / PROGRESS).read_bytes(), (folder / ROWS).read_bytes()
    with pytest.raises(InputError, match=r"has 6 texts of a run .*--restart to start anew"):
        run(file, job=job)
    assert ((folder / PROGRESS).read_bytes(), (folder / ROWS).read_bytes()) == before
    others = [f"other {number}" for number in range(5)]
    assert run(file, others, job=job, restart=True).resumed.rows == 0
    np.testing.assert_array_equal(read_back(file), make_vectors(others))


def test_rows_that_were_not_counted_are_cut_off(tmp_path: Path) -> None:
    """A process may be killed between writing rows and counting them."""
    file = tmp_path / "vectors.npy"
    folder = stop(file)
    with (folder / ROWS).open("ab") as rows:
        rows.write(b"half a window of rubbish")
    run(file, resume=True)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))


def test_rows_that_were_counted_and_are_not_there_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    folder = stop(file)
    content = (folder / ROWS).read_bytes()
    (folder / ROWS).write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"is damaged: rows\.npy is too short; use --restart"):
        run(file, resume=True)


@pytest.mark.parametrize(
    "texts",
    [
        ["another", *TEXTS[1:]],
        TEXTS[:4],
        [],
        ["text 0text 1", "", *TEXTS[2:]],
    ],
    ids=["other", "fewer", "none", "shifted"],
)
def test_other_texts_are_not_taken_for_those_of_the_draft(tmp_path: Path, texts: Texts) -> None:
    file = tmp_path / "vectors.npy"
    folder = stop(file)
    before = (folder / PROGRESS).read_bytes()
    with pytest.raises(
        InputError,
        match=r"the first 6 texts, or values kept beside them, are not those that .* has vectors of; use --restart",
    ) as caught:
        run(file, texts, resume=True)
    assert not hasattr(caught.value, "__notes__"), "no advice to resume"
    assert (folder / PROGRESS).read_bytes() == before
    run(file, resume=True)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))


def test_a_draft_of_another_job_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    stop(file)
    with pytest.raises(InputError, match=r"with another model or other options .*; use --restart"):
        run(file, resume=True, job="another job")


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"job": 5}', b'{"job": "job", "rows": "many"}'])
def test_a_damaged_count_is_refused(tmp_path: Path, content: bytes, resume: bool) -> None:
    file = tmp_path / "vectors.npy"
    (stop(file) / PROGRESS).write_bytes(content)
    with pytest.raises(InputError, match=r"progress\.json is damaged: .*; use --restart to start anew"):
        run(file, resume=resume)
    run(file, restart=True)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))


def test_an_older_draft_has_truncation_without_its_newest_field(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    progress = stop(file) / PROGRESS
    document = json.loads(progress.read_text())
    del document["truncation"]["partly_read"]
    progress.write_text(json.dumps(document))
    assert run(file, resume=True).progress.truncation == Truncation(4, 8, 2)


def test_what_is_finished_is_told_from_what_is_not(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    assert not is_finished(file), "there is no output"
    folder = stop(file)
    assert not is_finished(file), "there is a draft"
    file.write_bytes(b"of an earlier run")
    assert not is_finished(file), "there is a draft of another"
    run(file, resume=True)
    assert is_finished(file)
    folder.mkdir()
    assert is_finished(file), "a draft without vectors is nothing"
    assert list(tmp_path.iterdir()) == [file]


def link_to(file: Path, real: Path) -> Path:
    """A symbolic link in a folder of its own."""
    file.parent.mkdir(exist_ok=True)
    file.symlink_to(real)
    return file


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("suffix", FILES)
def test_a_link_is_followed_and_stays(tmp_path: Path, suffix: str, there: bool) -> None:
    """Its draft lies on the disk of the file, whose name may end in anything."""
    (tmp_path / "data").mkdir()
    real = tmp_path / "data" / "x.bin"
    if there:
        real.write_bytes(b"what was there")
    link = link_to(tmp_path / "links" / f"vectors{suffix}", Path("..", "data", "x.bin"))
    with pytest.raises(RuntimeError, match="stopped"):
        run(link, stop_after=1)
    assert (real.parent / ".x.bin.partial").is_dir()
    with pytest.raises(InputError, match=r"has 3 texts of a run that was not finished"):
        run(link)
    run(link, resume=True)
    assert is_finished(link)
    assert link.is_symlink()
    assert [file.name for file in link.parent.iterdir()] == [link.name]
    assert list(real.parent.iterdir()) == [real]
    undisturbed = tmp_path / f"undisturbed{suffix}"
    run(undisturbed)
    assert real.read_bytes() == undisturbed.read_bytes()


def test_what_comes_before_a_bad_text_can_be_kept(tmp_path: Path) -> None:
    """The bad text itself is not counted, so that the corrected list can be resumed."""
    file = tmp_path / "vectors.npy"
    bad: list[Any] = [*TEXTS[:3], 5, *TEXTS[4:]]
    with pytest.raises(TypeError, match="text 3 is int 5"):
        run(file, bad)
    draft = run(file, resume=True)
    assert draft.resumed.rows == 3
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))


def test_a_second_writer_of_one_destination_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    with drafting(file, "job", make_vectors([]), resume=False) as draft:
        with pytest.raises(InputError, match=r"another process is writing .*vectors\.npy; wait for it"):
            run(file)
        fill(draft, TEXTS)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))
    assert list(tmp_path.iterdir()) == [file]


def test_a_dataset_survives_a_failed_run_and_a_process_that_was_killed_while_it_was_replaced(tmp_path: Path) -> None:
    """The old one has a hidden name between two renames; a run that comes after gives it its name back."""
    file = tmp_path / "vectors.lance"
    run(file, ["old"])
    stop(file)
    np.testing.assert_array_equal(read_back(file), make_vectors(["old"]))
    file.rename(tmp_path / ".vectors.lance.old")
    with pytest.raises(InputError, match="has 6 texts of a run that was not finished"):
        run(file)
    np.testing.assert_array_equal(read_back(file), make_vectors(["old"]))
    run(file, resume=True)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_to_a_dataset_is_followed_and_stays(tmp_path: Path) -> None:
    real = tmp_path / "data" / "x"
    link = link_to(tmp_path / "links" / "vectors.lance", Path("..", "data", "x"))
    real.parent.mkdir()
    for texts in (["old"], TEXTS):
        run(link, texts)
        np.testing.assert_array_equal(read_back(link), make_vectors(texts))
    assert link.is_symlink()
    assert [file.name for file in (*link.parent.iterdir(), *real.parent.iterdir())] == ["vectors.lance", "x"]


def test_a_disk_that_is_full_for_a_dataset_keeps_the_draft(tmp_path: Path) -> None:
    file = tmp_path / "vectors.lance"
    folder = stop(file, 3)
    with files_limited_to(500), pytest.raises(InputError, match=r"^cannot write .*: File too large; it needs"):
        run(file, resume=True)
    assert sorted(path.name for path in folder.iterdir()) == [PROGRESS, ROWS]
    run(file, resume=True)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))


def test_every_suffix_that_is_offered_is_tested() -> None:
    assert sorted(SUFFIXES) == [".jsonl", ".lance", ".npy", ".parquet"]


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """A limit on the size of files stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 10, 127])
@pytest.mark.parametrize("suffix", FILES)
def test_a_disk_that_is_full_before_the_first_row_is_named_and_nothing_is_left(
    tmp_path: Path, suffix: str, size: int
) -> None:
    """The header, of 128 bytes, is the first to find no room; warnings are errors, so that no file stays open."""
    file = tmp_path / f"vectors{suffix}"
    file.write_bytes(b"")
    refused = (
        rf"^cannot write {re.escape(str(file))}: File too large; it needs [\d,]+ bytes or more, .*; make room there$"
    )
    with files_limited_to(size), pytest.raises(InputError, match=refused):
        run(file)
    gc.collect()
    assert list(tmp_path.iterdir()) == [file]
    run(file)
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))


def test_a_disk_that_is_full_when_a_run_is_taken_up_leaves_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    folder = stop(file)
    with files_limited_to(10), pytest.raises(InputError, match=rf"^cannot write {re.escape(str(file))}: "):
        run(file, resume=True)
    gc.collect()
    assert sorted(path.name for path in folder.iterdir()) == sorted([PROGRESS, ROWS])
    assert run(file, resume=True).resumed.rows == 2 * WINDOW
    np.testing.assert_array_equal(read_back(file), make_vectors(TEXTS))
