"""Both programs as processes: Ctrl-C at any moment, closed pipes, encodings that lack characters, `--version`."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quoit import Embedder
from quoit.artifact import Artifact, read_artifact

PATIENCE = 120
"""Seconds that a command may take on a busy machine."""

MOMENTS = 8
MANY = 1500
"""Texts whose table is larger than a pipe."""
PROGRAMS = {"quoit": "quoit", "quoit-export": "quoit_export"}
TEXTS = ["日本語 text", "plain", "café …", "\u202e\x1b[31m"]
QUERY = "日本?"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc how far a process is")


def command(module: str, *arguments: object) -> list[str]:
    """A command line."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(module: str, *arguments: object, **options: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    variables = options.pop("variables", {})
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "latin-1"}
    line, environment = command(module, *arguments), os.environ | variables
    done = subprocess.run(line, env=environment, timeout=PATIENCE, check=False, **pipes | options)
    return done.returncode, done.stdout or "", done.stderr or ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_artifact: Artifact, rerank_artifact: Artifact) -> Path:
    """Texts and models whose names and content few encodings have."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "模型").symlink_to(byte_artifact.folder)
    (folder / "裁判").symlink_to(rerank_artifact.folder)
    (folder / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    (folder / "文.txt").write_text("另一\n", encoding="utf-8")
    (folder / "many.txt").write_text("".join(f"{number} {'x' * 20}\n" for number in range(MANY)), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# `--version` and `-m`


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_says_its_version_and_shows_its_help(program: str) -> None:
    assert run(PROGRAMS[program], "--version") == (0, f"{program} {version('quoit')}\n", "")
    code, printed, _ = run(PROGRAMS[program], "--help")
    assert code == 0
    assert printed.startswith(f"usage: {program} ")
    assert run(PROGRAMS[program])[0] == 2


# Encodings

LATIN = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
MODEL = ["-m", "模型", "--precision", "fp32"]
COMMANDS: dict[str, list[str]] = {
    "similarity": ["similarity", QUERY, "texts.txt", *MODEL],
    "search": ["search", QUERY, "texts.txt", "文.txt", *MODEL],
    "rerank": ["rerank", "texts.txt", "--query", QUERY, "-m", "裁判", "--precision", "fp32"],
    "embed": ["embed", "texts.txt", "-o", "向量.npy", "--restart", *MODEL],
    "embed nothing": ["embed", "没有.txt", "-o", "向量.npy", *MODEL],
    "info": ["info", "模型"],
    "bench": ["bench", "模型", "--seconds", "1", "--json", "-o", "调.json", "--precision", "fp32"],
    "doctor": ["doctor", "模型", "--precision", "fp32"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_characters_that_cannot_be_shown_are_replaced(folder: Path, name: str) -> None:
    code, printed, report = run("quoit", *COMMANDS[name], cwd=folder, variables=LATIN)
    assert code == (2 if name == "embed nothing" else 0), report
    assert "Traceback" not in report
    if name in ("similarity", "search", "rerank"):
        assert "??? text" in printed
        assert "café ?" in printed
    if name == "search":
        assert re.search(r"  \?\.txt +1  \?\?$", printed, re.MULTILINE)
    if name == "info":
        assert printed.startswith("??: embedding model")
    if name == "bench":
        assert json.loads(printed.splitlines()[-1])["file"] == "调.json"
    if name.startswith("embed"):
        assert "\\u" in report


@pytest.mark.parametrize("name", ["similarity", "info", "embed nothing"])
def test_a_locale_of_ascii_alone_is_no_traceback(folder: Path, name: str) -> None:
    """The query arrives as bytes that are no text there, which is said."""
    code, printed, report = run("quoit", *COMMANDS[name], cwd=folder, variables=ASCII)
    assert code == (0 if name == "info" else 2)
    assert "Traceback" not in report
    assert printed.isascii()
    assert report.count("\n") == code // 2


def test_an_export_replaces_what_cannot_be_shown(tmp_path: Path, byte_checkpoint_folder: Path) -> None:
    arguments = [byte_checkpoint_folder, tmp_path / "输出", "--precision", "fp32"]
    code, printed, report = run("quoit_export", *arguments, variables=LATIN)
    assert (code, report) == (0, "")
    assert printed.startswith(f"{tmp_path}/??: ")
    code, printed, report = run("quoit_export", tmp_path / "没有", tmp_path / "输出", variables=LATIN)
    assert (code, printed, report.count("\n")) == (2, "", 1)
    assert "\\u6ca1" in report


# Closed pipes


@pytest.fixture
def closed() -> Iterator[int]:
    """The writing end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def check_quiet(report: str) -> None:
    """Nothing is said of the pipe."""
    assert not re.search("Traceback|Exception ignored|Broken pipe|Errno", report), report


QUIET: dict[str, list[str]] = {
    "a short table": ["similarity", "a", "texts.txt", "-o", "{tmp}/out.jsonl", *MODEL],
    "a long table": ["similarity", "a", "many.txt", "--top", "1500", "-o", "{tmp}/out.jsonl", *MODEL],
    "info": ["info", "模型"],
    "doctor": ["doctor", "模型", "--precision", "fp32"],
    "help": ["--help"],
    "help of a command": ["embed", "--help"],
    "version": ["--version"],
}


@pytest.mark.parametrize("name", QUIET)
def test_a_closed_pipe_is_quiet_and_the_work_is_done(folder: Path, tmp_path: Path, closed: int, name: str) -> None:
    arguments = [part.format(tmp=tmp_path) for part in QUIET[name]]
    code, _, report = run("quoit", *arguments, cwd=folder, stdout=closed)
    check_quiet(report)
    assert code == 0
    if "-o" in arguments:
        assert Path(arguments[arguments.index("-o") + 1]).stat().st_size > 0


def test_an_export_into_a_closed_pipe_is_whole(tmp_path: Path, byte_checkpoint_folder: Path, closed: int) -> None:
    out = tmp_path / "out"
    code, _, report = run("quoit_export", byte_checkpoint_folder, out, "--precision", "fp32", stdout=closed)
    assert (code, report) == (0, "")
    assert list(read_artifact(out).manifest.variants) == ["fp32"]
    assert run("quoit_export", "--help", stdout=closed)[::2] == (0, "")


def test_a_closed_pipe_for_reports_stops_nothing(folder: Path, tmp_path: Path, closed: int) -> None:
    arguments = ["embed", "texts.txt", "-o", tmp_path / "out.npy", *MODEL]
    assert run("quoit", *arguments, cwd=folder, stderr=closed)[:2] == (0, "")
    assert len(np.load(tmp_path / "out.npy")) == len(TEXTS)
    assert run("quoit", "info", "nowhere", stdout=closed, stderr=closed)[0] == 2
    assert run("quoit_export", "nowhere", tmp_path / "out", stdout=closed, stderr=closed)[0] == 2


def test_a_reader_that_leaves_after_a_line_has_that_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    line = " ".join(command("quoit", "similarity", "a", "many.txt", "--top", MANY, "-o", out, *MODEL))
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    check_quiet(done.stderr)
    assert (done.returncode, done.stdout) == (0, "rank   cosine  item  text\n")
    assert len(out.read_text().splitlines()) == MANY


def test_streams_that_are_closed_from_the_beginning_are_no_obstacle(folder: Path, tmp_path: Path) -> None:
    """What would be said there is said nowhere, and nothing of it gets into the other stream or a file."""
    out = tmp_path / "out.jsonl"
    words = command("quoit", "similarity", "a", "texts.txt", "-o", out, *MODEL)
    for closing in (">&-", "2>&-", ">&- 2>&-"):
        line = ["bash", "-c", f'exec "$@" {closing}', "bash", *words]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        assert len(out.read_text().splitlines()) == len(TEXTS)
        assert len(done.stdout.splitlines()) == (1 + len(TEXTS) if closing == "2>&-" else 0)
        assert len(done.stderr.splitlines()) == (2 if closing == ">&-" else 0)
        out.unlink()


@pytest.mark.parametrize("arguments", [["info", "模型"], ["similarity", "a", "many.txt", "--top", "1500", *MODEL]])
def test_a_result_that_found_no_room_is_an_error(folder: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, report = run("quoit", *arguments, cwd=folder, stdout=full)
    assert code == 2
    assert re.fullmatch(r"quoit: .*No space left on device: 'standard output'\n", report), report


# Ctrl-C


def launch(module: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A process in the middle of its imports: numpy is loaded, and more is to come."""
    process = subprocess.Popen(
        command(module, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "_multiarray_umath" not in maps.read_text():
        time.sleep(0.001)
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and its report."""
    _, report = process.communicate(timeout=PATIENCE)
    return process.returncode, report


def similarity(folder: Path) -> list[object]:
    return ["similarity", "a", folder / "many.txt", "-m", folder / "模型", "--precision", "fp32"]


def export(checkpoint: Path, folder: Path) -> list[object]:
    return [checkpoint, folder / "out", "--precision", "fp32"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_at_any_moment_of_the_start_is_one_line(
    folder: Path, tmp_path: Path, byte_checkpoint_folder: Path, program: str
) -> None:
    """Moments from the middle of the imports to the end of the work, of which most interrupt it."""
    arguments = similarity(folder) if program == "quoit" else export(byte_checkpoint_folder, tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    process = launch(PROGRAMS[program], *arguments)
    began = time.perf_counter()
    assert finish(process)[0] == 0
    seconds = time.perf_counter() - began
    codes = []
    for number in range(MOMENTS):
        if program == "quoit-export":
            (tmp_path / str(number)).mkdir()
            arguments = export(byte_checkpoint_folder, tmp_path / str(number))
        process = launch(PROGRAMS[program], *arguments)
        time.sleep(seconds * number / MOMENTS)
        process.send_signal(signal.SIGINT)
        code, report = finish(process)
        assert code in (0, 130), report
        if code == 130:
            assert re.fullmatch(rf"{program}: interrupted(; the same command goes on where it stopped)?\n", report)
        check_quiet(report)
        codes.append(code)
    assert codes[0] == 130
    assert codes.count(130) >= MOMENTS // 2


def test_ctrl_c_again_and_again_is_one_exit(folder: Path) -> None:
    """A second and third one arrive while the first is answered."""
    for delay in (0.0, 0.001, 0.01, 0.05):
        process = launch("quoit", "embed", "-o", folder / "out.npy", "-m", folder / "模型", stdin=subprocess.PIPE)
        time.sleep(0.5)
        for _ in range(4):
            process.send_signal(signal.SIGINT)
            time.sleep(delay)
        code, report = finish(process)
        assert code == 130, report
        check_quiet(report)
        assert report.count("\n") <= 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_interrupt_that_is_ignored_from_outside_stays_ignored(
    folder: Path, tmp_path: Path, byte_checkpoint_folder: Path, program: str
) -> None:
    """As a shell starts what runs in the background."""
    arguments = similarity(folder) if program == "quoit" else export(byte_checkpoint_folder, tmp_path)
    line = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", *command(PROGRAMS[program], *arguments)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(10):
        time.sleep(0.1)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 0


LOST = """
import signal, sys, time, types
from quoit.cli.process import guarded, start

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def work():
    Finalized()
    time.sleep(60)

module = types.ModuleType("program")
module.main = lambda: guarded("program", work)
sys.modules["program"] = module
sys.exit(start("program", "program"))
"""


def test_ctrl_c_in_a_finalizer_is_not_lost() -> None:
    """Python can raise nothing there, and would print a traceback and go on."""
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, text=True, timeout=PATIENCE / 4, check=False
    )
    assert (done.returncode, done.stderr) == (130, "program: interrupted\n")


def test_what_was_embedded_before_ctrl_c_is_said_and_goes_on(folder: Path, tmp_path: Path) -> None:
    """The message says what is kept, and nothing that contradicts it."""
    out, texts = tmp_path / "out.npy", tmp_path / "texts.txt"
    texts.write_text("".join(f"{number} text\n" for number in range(9000)))
    arguments = ["embed", texts, "-o", out, "-m", folder / "模型", "--precision", "fp32", "--threads", "1"]
    process = launch("quoit", *arguments)
    progress = tmp_path / ".out.npy.partial" / "progress.json"
    while process.poll() is None and not progress.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    code, report = finish(process)
    assert code == 130
    found = re.fullmatch(
        r"quoit: interrupted; ([\d,]+) texts are done, and the same command with --resume goes on\n", report
    )
    assert found is not None, report
    assert int(found[1].replace(",", "")) == json.loads(progress.read_text())["rows"]
    code, _, report = run("quoit", *arguments)
    assert code == 2
    assert f" has {found[1]} texts of a run that was not finished; use --resume" in report
    code, _, report = run("quoit", *arguments, "--resume")
    assert code == 0
    assert f": 9000 vectors, {found[1]} of them before" in report
    expected = Embedder(folder / "模型", precision="fp32").encode_document([f"{n} text" for n in (0, 8999)])
    np.testing.assert_array_equal(np.load(out)[[0, -1]], expected)
