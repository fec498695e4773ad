"""Files and folders are whole under their name, or what was there before stays."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quoit import InputError
from quoit.errors import ComputeError
from quoit.files.atomic import (
    check_writable,
    explain_full_disk,
    hidden_path,
    locked,
    new_folder,
    remove,
    replace_folder,
    restore_folder,
)

FILES = ("a", "b/c")
KILLED = 9
MOMENTS = 40
"""More file operations than any process here makes."""

KILL = """
import os, sys
from pathlib import Path
from quoit.files.atomic import replace_folder, replacing

left = int(sys.argv[1])

def kill(event, arguments):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree") or (
        event == "open" and arguments[1] is not None and "w" in arguments[1]
    ):
        left -= 1
        if left < 0:
            os._exit(9)

folder = Path(sys.argv[2])
"""
FOLDER = "replace_folder(folder / '.out.partial', folder / 'out')"
FILE = "with replacing(folder / 'out') as draft: draft.write_bytes(b'new' * 100_000)"


def run_until(moment: int, folder: Path, work: str) -> bool:
    """Whether a process arrives at the end; else it was killed before one of its file operations."""
    code = f"{KILL}\nsys.addaudithook(kill)\n{work}"
    found = subprocess.run([sys.executable, "-c", code, str(moment), str(folder)], check=False, capture_output=True)
    assert found.returncode in (0, KILLED), found.stderr
    return found.returncode == 0


def make(folder: Path, content: str) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def content_of(folder: Path) -> set[str]:
    """The contents of the files, all of which are there."""
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == list(FILES)
    return {(folder / name).read_text() for name in FILES}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_is_whole_whenever_its_replacement_is_killed(tmp_path: Path, there: bool) -> None:
    """Killed before each of its file operations: the old folder first, and from some moment on the new one."""
    seen = []
    for moment in range(MOMENTS):
        folder = tmp_path / str(moment)
        make(folder / ".out.partial", "new")
        if there:
            make(folder / "out", "old")
        done = run_until(moment, folder, FOLDER)
        assert not there or (folder / "out").exists() or (folder / ".out.old").exists()
        restore_folder(folder / "out")
        restore_folder(folder / "out")
        seen += [*content_of(folder / "out")] if (folder / "out").exists() else ["nothing"]
        rest = {"out"} if seen[-1] == "new" else {"out", ".out.partial"} if there else {".out.partial"}
        assert set(names_in(folder)) == rest
        if done:
            break
    before = "old" if there else "nothing"
    assert seen == sorted(seen, key=[before, "new"].index)
    assert (seen[0], seen[-1]) == (before, "new")
    assert len(seen) > (4 if there else 1)


def test_a_file_is_whole_whenever_its_replacement_is_killed(tmp_path: Path) -> None:
    file, seen = tmp_path / "out", []
    for moment in range(MOMENTS):
        file.write_bytes(b"old")
        done = run_until(moment, tmp_path, FILE)
        seen.append(file.read_bytes())
        if done:
            break
    assert seen == sorted(seen, key=[b"old", b"new" * 100_000].index)
    assert seen[:2] == [b"old", b"old"]
    assert seen[-1] == b"new" * 100_000


def test_a_replacement_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "absent", tmp_path / "out")
    assert content_of(tmp_path / "out") == {"old"}
    assert names_in(tmp_path) == ["out"]


def test_an_empty_folder_that_was_made_after_a_kill_is_no_reason_to_lose_the_old_one(tmp_path: Path) -> None:
    make(tmp_path / ".out.old", "old")
    (tmp_path / "out").mkdir()
    restore_folder(tmp_path / "out")
    assert content_of(tmp_path / "out") == {"old"}
    assert names_in(tmp_path) == ["out"]


def test_where_nothing_was_replaced_nothing_is_restored(tmp_path: Path) -> None:
    restore_folder(tmp_path / "out")
    assert names_in(tmp_path) == []
    make(tmp_path / "out", "old")
    restore_folder(tmp_path / "out")
    assert content_of(tmp_path / "out") == {"old"}


@pytest.mark.parametrize("kind", ["file", "folder", "link", "nothing"])
def test_a_new_folder_takes_the_place_of_what_was_there(tmp_path: Path, kind: str) -> None:
    """What a link points to stays."""
    folder, other = tmp_path / "deep" / "new", make(tmp_path / "other", "mine")
    folder.parent.mkdir()
    if kind == "file":
        folder.write_text("rubbish")
    if kind == "folder":
        make(folder, "rubbish")
    if kind == "link":
        folder.symlink_to(other)
    with new_folder(folder):
        assert names_in(folder) == []
        make(folder, "new")
    assert content_of(folder) == {"new"}
    assert content_of(other) == {"mine"}
    with pytest.raises(FileExistsError), new_folder(folder):
        make(folder, "half").mkdir()
    assert names_in(folder.parent) == []


def test_what_is_removed_may_be_anything(tmp_path: Path) -> None:
    other = make(tmp_path / "other", "mine")
    make(tmp_path / "folder", "rubbish")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(other)
    for name in ("folder", "file", "link", "absent"):
        remove(tmp_path / name)
    assert names_in(tmp_path) == ["other"]
    assert content_of(other) == {"mine"}


def test_a_hidden_path_is_beside_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link"
    link.symlink_to(tmp_path / "real")
    assert hidden_path(link, "partial") == hidden_path(tmp_path / "real", "partial") == tmp_path / ".real.partial"


def write_bytes(full: Path) -> None:
    with full.open("wb", buffering=0) as file:
        file.write(b"x")


def write_array(full: Path) -> None:
    """numpy's error has no number."""
    with full.open("wb", buffering=0) as file:
        np.zeros(1 << 16).tofile(file)


@pytest.mark.parametrize("write", [write_bytes, write_array])
@pytest.mark.parametrize(("needed", "said"), [(None, "6"), (4000, "4,000")])
def test_the_error_of_a_full_disk_is_of_the_callers_class(
    tmp_path: Path, write: Callable[[Path], None], needed: int | None, said: str
) -> None:
    """/dev/full is a disk without room."""
    out, draft = tmp_path / "out", tmp_path / "draft"
    draft.write_bytes(b"12345")
    pattern = (
        rf"^cannot write {re.escape(str(out))}: No space left on device; it needs {said} bytes or more, 5 are written "
        rf"and [\d,]+ are free in {re.escape(str(tmp_path))}; do this$"
    )
    with (
        pytest.raises(ComputeError, match=pattern),
        explain_full_disk(out, draft, needed, refusal=ComputeError, step="do this"),
    ):
        write(Path("/dev/full"))


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_full_disk(tmp_path / "out", tmp_path / "draft"):
        (tmp_path / "absent").read_bytes()


def test_a_lock_is_of_one_process_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with locked(path, ComputeError):
        with pytest.raises(ComputeError, match=f"^another process is writing {re.escape(str(path))}; wait for it"):
            locked(path, ComputeError).__enter__()
        with locked(tmp_path / "other", InputError):
            assert names_in(tmp_path) == [".other.lock", ".out.lock"]
    assert names_in(tmp_path) == []
    with locked(path, ComputeError):
        pass


def test_a_file_that_can_be_written_is_not_touched_by_the_check(tmp_path: Path) -> None:
    file = tmp_path / "out"
    check_writable(file)
    assert names_in(tmp_path) == []
    file.write_text("mine")
    check_writable(file)
    assert file.read_text() == "mine"
