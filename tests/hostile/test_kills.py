"""Processes that are killed or interrupted at any moment leave nothing half, and the same command goes on."""

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quoit import Embedder
from quoit.artifact import Artifact, hash_file, read_artifact

TEXTS = 14_000
KILLS = 12
EXPORT_KILLS = 6
SECONDS = 60
"""How long one process may take before a test gives up on it."""

REFUSED, INTERRUPTED = 2, 130
EMBED = "from quoit.__main__ import entry"
EXPORT = "from quoit_export.__main__ import entry"
SUFFIXES = (".npy", ".parquet", ".jsonl")
SIGNALS = [signal.SIGKILL, signal.SIGINT]

Process = subprocess.Popen[str]


def start(program: str, *arguments: object) -> Process:
    """A process of the program, which has said that it is about to begin."""
    script = f"import sys; {program}\nprint('ready', flush=True)\nsys.exit(entry())"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: Process) -> tuple[int, str]:
    """Its exit code and what it wrote to standard error."""
    _, err = process.communicate(timeout=SECONDS)
    return process.returncode, err


def timed(program: str, *arguments: object) -> float:
    """How long an undisturbed run takes."""
    process, began = start(program, *arguments), time.perf_counter()
    code, err = finish(process)
    assert code == 0, err
    return time.perf_counter() - began


def delays(count: int, seconds: float) -> Iterator[float]:
    """Random moments, one in each of `count` equal parts of a run."""
    generator = random.Random(f"{count} {seconds}")
    for part in range(count):
        yield (part + generator.random()) / count * seconds


def check_end(name: signal.Signals, code: int, err: str, out: Path) -> None:
    """How a process ends that was sent a signal: by it, or since all was done before."""
    assert "Traceback" not in err, err
    assert code in {0, -signal.SIGKILL if name == signal.SIGKILL else INTERRUPTED}, err
    assert out.exists() or code != 0


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of different short texts."""
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("".join(f"{number} text\n" for number in range(TEXTS)))
    return file


@pytest.fixture(scope="module")
def embed_arguments(byte_artifact: Artifact) -> Callable[[Path, Path], list[object]]:
    def arguments(texts: Path, out: Path) -> list[object]:
        return ["embed", texts, "-o", out, "-m", byte_artifact.folder, "--precision", "fp32", "--dim", "32"]

    return arguments


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, texts: Path, embed_arguments: Callable[[Path, Path], list[object]]
) -> dict[str, tuple[bytes, float]]:
    """What an undisturbed run writes, and how long it takes."""
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for suffix in SUFFIXES:
        seconds = timed(EMBED, *embed_arguments(texts, folder / f"out{suffix}"))
        found[suffix] = (folder / f"out{suffix}").read_bytes(), seconds
    return found


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_embed_that_was_stopped_leaves_nothing_half_and_goes_on(
    tmp_path: Path,
    texts: Path,
    embed_arguments: Callable[[Path, Path], list[object]],
    whole: dict[str, tuple[bytes, float]],
    suffix: str,
    name: signal.Signals,
) -> None:
    """KILLS of each signal over the suffixes; the last run is the same command with --resume."""
    expected, seconds = whole[suffix]
    for number, delay in enumerate(delays(KILLS // len(SUFFIXES), seconds)):
        out = tmp_path / str(number) / f"out{suffix}"
        out.parent.mkdir()
        process = start(EMBED, *embed_arguments(texts, out))
        time.sleep(delay)
        process.send_signal(name)
        code, err = finish(process)
        check_end(name, code, err, out)
        if out.exists():
            assert out.read_bytes() == expected
        code, err = finish(start(EMBED, *embed_arguments(texts, out), "--resume"))
        assert code == 0, err
        assert out.read_bytes() == expected
        left = [file.name for file in out.parent.iterdir() if file != out]
        assert left == []


@pytest.mark.parametrize("program", [EMBED, EXPORT])
def test_a_command_that_is_done_is_not_stopped(program: str) -> None:
    """Python waits for its threads when `main` has returned, and Ctrl-C is heard there as anywhere."""
    waiting = "import threading, time; threading.Thread(target=time.sleep, args=(1,)).start()"
    process = start(f"{program}; {waiting}", "--help")
    assert process.stdout is not None
    while "show this help message" not in process.stdout.readline():
        pass
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert finish(process) == (0, "")


def test_an_embed_that_was_stopped_again_and_again_arrives(
    tmp_path: Path,
    texts: Path,
    embed_arguments: Callable[[Path, Path], list[object]],
    whole: dict[str, tuple[bytes, float]],
) -> None:
    """Each run is killed once it has done a little more than the one before."""
    out, progress = tmp_path / "out.npy", tmp_path / ".out.npy.partial" / "progress.json"
    done = 0
    for _ in range(4):
        process = start(EMBED, *embed_arguments(texts, out), "--resume")
        while process.poll() is None and rows_in(progress) <= done:
            time.sleep(0.005)
        process.kill()
        finish(process)
        assert rows_in(progress) > done
        done = rows_in(progress)
    code, err = finish(start(EMBED, *embed_arguments(texts, out), "--resume"))
    assert code == 0, err
    resumed = re.search(r"vectors, ([\d,]+) of them before", err)
    assert resumed is not None
    assert int(resumed[1].replace(",", "")) == done
    assert out.read_bytes() == whole[".npy"][0]


def rows_in(progress: Path) -> int:
    """How many rows a draft counts."""
    try:
        found = re.search(r'"rows":(\d+)', progress.read_text())
    except FileNotFoundError:
        return 0
    return int(found[1]) if found else 0


@pytest.mark.parametrize("left", ["rows and progress", "progress alone", "nothing"])
def test_a_kill_between_the_last_two_steps_is_no_obstacle(
    tmp_path: Path,
    texts: Path,
    embed_arguments: Callable[[Path, Path], list[object]],
    whole: dict[str, tuple[bytes, float]],
    left: str,
) -> None:
    """The output has its name before the draft is removed, which takes two steps more."""
    out, draft = tmp_path / "out.npy", tmp_path / ".out.npy.partial"
    process = start(EMBED, *embed_arguments(texts, out))
    while process.poll() is None and not rows_in(draft / "progress.json"):
        time.sleep(0.005)
    process.kill()
    finish(process)
    if left == "progress alone":
        (draft / "rows.npy").unlink()
    if left == "nothing":
        for file in draft.iterdir():
            file.unlink()
    out.write_bytes(whole[".npy"][0])
    code, err = finish(start(EMBED, *embed_arguments(texts, out), "--resume"))
    assert code == 0, err
    assert out.read_bytes() == whole[".npy"][0]


def test_of_two_embeds_to_one_file_one_wins_and_the_file_is_whole(
    tmp_path: Path,
    texts: Path,
    embed_arguments: Callable[[Path, Path], list[object]],
    whole: dict[str, tuple[bytes, float]],
) -> None:
    out = tmp_path / "out.npy"
    both = [start(EMBED, *embed_arguments(texts, out)) for _ in range(2)]
    ends = sorted(finish(process) for process in both)
    assert ends[0][0] == 0, ends
    check_second(ends[1])
    assert out.read_bytes() == whole[".npy"][0]
    assert [file.name for file in tmp_path.iterdir()] == ["out.npy"]


def check_second(end: tuple[int, str]) -> None:
    """The second of two processes comes late and does it again, or is told of the first."""
    code, err = end
    if code:
        assert code == REFUSED
        assert "another process is writing" in err
        assert err.count("\n") == 1


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, byte_checkpoint_folder: Path) -> tuple[dict[str, str], float]:
    """The hashes of an undisturbed export's files, and how long it takes."""
    out = tmp_path_factory.mktemp("exported") / "out"
    seconds = timed(EXPORT, byte_checkpoint_folder, out)
    return hashes(out), seconds


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder, and its hash."""
    return {str(file.relative_to(folder)): hash_file(file) for file in folder.rglob("*") if file.is_file()}


def check_whole(out: Path) -> None:
    """An artifact that loads in all its precisions."""
    for precision in read_artifact(out).manifest.variants:
        Embedder(out, precision=precision, provider="cpu").encode("a")


@pytest.mark.parametrize("name", SIGNALS)
def test_an_export_that_was_stopped_leaves_nothing_half_and_goes_on(
    tmp_path: Path, byte_checkpoint_folder: Path, exported: tuple[dict[str, str], float], name: signal.Signals
) -> None:
    expected, seconds = exported
    for number, delay in enumerate(delays(EXPORT_KILLS, seconds)):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        process = start(EXPORT, byte_checkpoint_folder, out)
        time.sleep(delay)
        process.send_signal(name)
        code, err = finish(process)
        check_end(name, code, err, out)
        if out.exists():
            check_whole(out)
        code, err = finish(start(EXPORT, byte_checkpoint_folder, out))
        assert code == 0, err
        assert hashes(out) == expected
        assert [file.name for file in out.parent.iterdir()] == ["out"]


DIE = """
import os

def die(event, arguments):
    if event == {event!r} and {place!r} == str(arguments[{index}]):
        os._exit(9)

sys.addaudithook(die)
"""
MOMENTS = {
    "between the renames": ("os.rename", "out", 1),
    "before the old one is removed": ("shutil.rmtree", ".out.old", 0),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_export_that_was_killed_while_it_replaced_an_artifact_loses_nothing(
    tmp_path: Path, byte_checkpoint_folder: Path, exported: tuple[dict[str, str], float], moment: str
) -> None:
    """The artifact that was there is whole under a hidden name, or the new one is whole under its own."""
    event, name, index = MOMENTS[moment]
    out = tmp_path / "out"
    timed(EXPORT, byte_checkpoint_folder, out, "--precision", "fp32")
    killed = start(
        f"{DIE.format(event=event, place=str(tmp_path / name), index=index)}\n{EXPORT}", byte_checkpoint_folder, out
    )
    assert finish(killed) == (9, "")
    names = {file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")}
    assert ".out.old" in names
    check_whole(out if out.exists() else tmp_path / ".out.old")
    code, err = finish(start(EXPORT, byte_checkpoint_folder, out))
    assert code == 0, err
    assert hashes(out) == exported[0]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_of_two_exports_to_one_folder_one_wins_and_the_folder_is_whole(
    tmp_path: Path, byte_checkpoint_folder: Path, exported: tuple[dict[str, str], float]
) -> None:
    out = tmp_path / "out"
    both = [start(EXPORT, byte_checkpoint_folder, out) for _ in range(2)]
    ends = sorted(finish(process) for process in both)
    assert ends[0][0] == 0, ends
    check_second(ends[1])
    check_whole(out)
    assert hashes(out) == exported[0]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
