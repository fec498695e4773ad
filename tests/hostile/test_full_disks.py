"""Disks that are full, read-only or not there: the error names the file and the space, and no work is lost."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from quoit import Embedder
from quoit.artifact import Artifact
from quoit.cli.bench import made_texts
from quoit.search import VectorCache
from quoit.tuning.autotune import MIN_TEXTS

PATIENCE = 120
"""Seconds that a command may take on a busy machine."""

MANY, SOME = 9000, 1500
ROW_BYTES = 96 * 4

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts file systems, which only root may"
)


class Disk(NamedTuple):
    """A small file system of its own."""

    folder: Path

    def mount(self, *options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.folder)],
            check=True,
            capture_output=True,
        )

    def set(self, *options: str) -> None:
        self.mount("remount", *options)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 1 MB."""
    disk = Disk(tmp_path / "disk")
    disk.folder.mkdir()
    try:
        disk.mount("size=1m")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    yield disk
    subprocess.run(["umount", str(disk.folder)], check=True)


Outcome = tuple[int, str, str]
Quoit = Callable[..., Outcome]


def run(*arguments: object, **variables: str) -> Outcome:
    """Exit code, standard output and standard error of `quoit`."""
    command = [sys.executable, "-m", "quoit", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"} | variables
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment)
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def fill(disk: Disk) -> None:
    """Leaves no room on the disk."""
    disk.set("size=8k")
    (disk.folder / "filler").write_bytes(b"x" * 8192)


def texts_file(folder: Path, count: int) -> Path:
    file = folder / f"{count}.txt"
    file.write_text("".join(f"{number} text\n" for number in range(count)))
    return file


@pytest.fixture
def model(byte_artifact: Artifact) -> list[object]:
    return ["-m", byte_artifact.folder, "--precision", "fp32"]


FULL = r"No space left on device; it needs ([\d,]+) bytes or more, ([\d,]+) are written and ([\d,]+) are free in "


def numbers(found: re.Match[str] | None) -> list[int]:
    assert found is not None
    return [int(group.replace(",", "")) for group in found.groups()]


def test_an_embed_that_fills_the_disk_keeps_what_it_has_and_goes_on(
    tmp_path: Path, disk: Disk, model: list[object]
) -> None:
    """The rows that are on disk stay; the same command goes on once there is room."""
    texts, out = texts_file(tmp_path, MANY), disk.folder / "out.npy"
    draft = disk.folder / ".out.npy.partial"
    code, printed, report = run("embed", texts, "-o", out, *model)
    assert (code, printed, report.count("\n")) == (2, "", 1)
    pattern = rf"quoit: cannot write {draft}/rows\.npy: {FULL}{draft}; make room there; ([\d,]+) texts are done, and "
    needed, written, free, done = numbers(re.match(pattern, report))
    assert report.endswith(" the same command with --resume goes on\n")
    assert done == json.loads((draft / "progress.json").read_text())["rows"] > 0
    assert needed > done * ROW_BYTES
    assert done * ROW_BYTES < written < needed <= written + 2048 * ROW_BYTES
    assert free < 1 << 20
    assert not out.exists()
    assert run("embed", texts, "-o", out, "--resume", *model)[0] == 2, "there is no more room than before"
    disk.set("size=32m")
    code, _, report = run("embed", texts, "-o", out, "--resume", *model)
    assert code == 0, report
    assert f"{MANY} vectors, {done:,} of them before" in report
    assert run("embed", texts, "-o", tmp_path / "undisturbed.npy", *model)[0] == 0
    assert out.read_bytes() == (tmp_path / "undisturbed.npy").read_bytes()
    assert list(disk.folder.iterdir()) == [out]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_format_that_finds_no_room_keeps_the_vectors(
    tmp_path: Path, disk: Disk, model: list[object], suffix: str
) -> None:
    """All rows are there, and the file made of them is not."""
    texts, out = texts_file(tmp_path, SOME), disk.folder / f"out{suffix}"
    code, _, report = run("embed", texts, "-o", out, *model)
    assert code == 2
    needed, written, _ = numbers(re.match(rf"quoit: cannot write {out}: {FULL}", report))
    assert needed >= max(SOME * ROW_BYTES, written + 1)
    assert report.endswith(f"; {SOME:,} texts are done, and the same command with --resume goes on\n")
    assert report.count("\n") == 1
    draft = disk.folder / f".out{suffix}.partial"
    assert sorted(file.name for file in draft.iterdir()) == ["progress.json", "rows.npy"]
    disk.set("size=32m")
    assert run("embed", texts, "-o", out, "--resume", *model)[0] == 0
    assert run("embed", texts, "-o", tmp_path / f"undisturbed{suffix}", *model)[0] == 0
    assert out.read_bytes() == (tmp_path / f"undisturbed{suffix}").read_bytes()
    assert list(disk.folder.iterdir()) == [out]


def test_a_first_window_that_finds_no_room_leaves_nothing(tmp_path: Path, disk: Disk, model: list[object]) -> None:
    disk.set("size=64k")
    out = disk.folder / "out.npy"
    out.write_bytes(b"what was there")
    code, _, report = run("embed", texts_file(tmp_path, SOME), "-o", out, *model)
    assert code == 2
    assert re.search(rf"rows\.npy: {FULL}", report)
    assert report.endswith("; make room there\n")
    assert out.read_bytes() == b"what was there"
    assert list(disk.folder.iterdir()) == [out]


def test_a_draft_lies_on_the_disk_that_a_link_leads_to(tmp_path: Path, disk: Disk, model: list[object]) -> None:
    """So that the vectors take their name in one step; the file need not be there yet."""
    link, real = tmp_path / "link.npy", disk.folder / "real.npy"
    link.symlink_to(real)
    texts = texts_file(tmp_path, 10)
    for _ in range(2):
        assert run("embed", texts, "-o", link, *model)[0] == 0
        assert link.is_symlink()
        assert np.load(real).shape == (10, 96)
        assert list(disk.folder.iterdir()) == [real]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_ranking_that_finds_no_room_is_printed(tmp_path: Path, disk: Disk, model: list[object], suffix: str) -> None:
    file, out = texts_file(tmp_path, 10), disk.folder / f"out{suffix}"
    fill(disk)
    code, printed, report = run("similarity", "a", file, "-o", out, *model)
    assert code == 2
    assert len(printed.splitlines()) == 1 + 10
    assert re.fullmatch(rf"quoit: cannot write {out}: {FULL}{disk.folder}; make room there\n", report)
    assert [file.name for file in disk.folder.iterdir()] == ["filler"]


def test_a_ranking_follows_a_link(tmp_path: Path, model: list[object]) -> None:
    link, real = tmp_path / "link.jsonl", tmp_path / "real.jsonl"
    link.symlink_to("real.jsonl")
    assert run("similarity", "a", texts_file(tmp_path, 10), "-o", link, *model)[0] == 0
    assert link.is_symlink()
    assert len(real.read_text().splitlines()) == 10


# The cache of `quoit search`


def search(tmp_path: Path, model: list[object], *more: object, **variables: str) -> str:
    """Searches two files, which must be answered; returns the report."""
    files = [texts_file(tmp_path, count) for count in (10, 20)]
    code, printed, report = run("search", "a", *files, *model, *more, **variables)
    assert code == 0, report
    assert len(printed.splitlines()) == 1 + 10
    assert re.search(r"^30 texts of 2 files in ", report, re.MULTILINE)
    return report


def check_warned_once(report: str, folder: Path | str) -> None:
    (warning,) = [line for line in report.splitlines() if line.startswith("quoit: ")]
    assert warning.startswith("quoit: vectors are not cached: ")
    assert str(folder) in warning
    assert warning.endswith("; name another folder with --cache, or use --no-cache")


def test_a_search_without_a_home_warns_once_and_answers(tmp_path: Path, model: list[object]) -> None:
    check_warned_once(search(tmp_path, model, HOME="/proc/x"), "/proc/x")


def test_a_search_on_a_full_disk_warns_once_and_answers(tmp_path: Path, disk: Disk, model: list[object]) -> None:
    fill(disk)
    report = search(tmp_path, model, "--cache", disk.folder)
    check_warned_once(report, disk.folder)
    assert re.search(FULL, report)
    assert [file.name for file in disk.folder.iterdir()] == ["filler"]


def test_a_read_only_cache_is_used_as_it_is(
    tmp_path: Path, disk: Disk, model: list[object], byte_artifact: Artifact
) -> None:
    """What it has is taken, without a warning; what it lacks is a warning and computed."""
    assert "quoit: " not in search(tmp_path, model, "--cache", disk.folder)
    disk.set("ro")
    assert "quoit: " not in search(tmp_path, model, "--cache", disk.folder)
    embedder = Embedder(byte_artifact, precision="fp32")
    texts = texts_file(tmp_path, 10).read_text().splitlines()
    np.testing.assert_array_equal(VectorCache(disk.folder).documents(embedder, texts), embedder.encode_document(texts))
    code, _, report = run("search", "a", texts_file(tmp_path, 5), *model, "--cache", disk.folder)
    assert code == 0
    check_warned_once(report, disk.folder)


def test_a_cache_below_a_file_warns_once_and_answers(tmp_path: Path, model: list[object]) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "cache"
    check_warned_once(search(tmp_path, model, "--cache", folder), folder)


# The tuning file of `quoit bench`


def test_a_bench_without_a_home_is_refused_before_it_starts(byte_artifact: Artifact) -> None:
    code, printed, report = run("bench", byte_artifact.folder, "--seconds", "86400", HOME="/proc/x")
    assert (code, printed, report.count("\n")) == (2, "", 1)
    assert "/proc/x" in report
    assert report.endswith("; name a file with --output\n")


def test_a_bench_that_finds_no_room_prints_its_result(tmp_path: Path, disk: Disk, byte_artifact: Artifact) -> None:
    """The file is named as the user did: by a link to the disk that is full."""
    texts, out = tmp_path / "texts.txt", tmp_path / "tuning.json"
    texts.write_text("\n".join(made_texts()[:MIN_TEXTS]))
    out.symlink_to(disk.folder / "real.json")
    fill(disk)
    arguments = ["--seconds", "1", "--texts", texts, "--json", "-o", out, "--precision", "fp32"]
    code, printed, report = run("bench", byte_artifact.folder, *arguments)
    assert code == 2
    assert json.loads(printed.splitlines()[-1])["tokens_per_second"] > 0
    assert re.fullmatch(rf"quoit: cannot write {out}: {FULL}{disk.folder}; make room there\n", report)
    disk.set("ro")
    code, printed, report = run("bench", byte_artifact.folder, "--seconds", "86400", "-o", out)
    assert (code, printed) == (2, "")
    assert f"{disk.folder} is no folder that can be written" in report
