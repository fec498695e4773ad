"""Any command line: exit code 0, 1 or 2, at most one line of error, and never a traceback."""

import gzip
import io
import re
import shutil
from argparse import ArgumentParser, _SubParsersAction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import TEXTS, fuzz
from quoit.artifact import Artifact
from quoit.cli.main import main, make_parser

OK, FAILED, REFUSED = 0, 1, 2
UNDECODABLE = "caf\udce9.txt"
"""A file name that is not UTF-8, as Python hands it to programs."""

VALUES = [
    *("artifact", "artifact/quoit.json", "empty", "nowhere", "checkpoint", "damaged", ""),
    *("docs", "docs/c.csv.gz", "e.json", "f.tsv", ";", "\\t", "json", "/dev/null"),
    *("a.txt", "b.jsonl", "c.csv", "d.parquet", "garbage.parquet", "none.txt", "latin1.txt", UNDECODABLE, "-", "--"),
    *("out.npy", "out.jsonl", "out.parquet", "out.zip", ".npy", "no/such/out.npy", "empty/", "/proc/out.npy"),
    *("ranges.npy", "garbage.npy", "0", "1", "2", "-1", "64", "99999999999999999999", "1e3", "nan", "0x10", " 7 "),
    *("fp32", "int8", "bf16", "cpu", "cuda", "auto", "txt", "csv", "parquet", "text", "other", "uint8", "binary"),
    *("a" * 300, "*", "~", "%s", "{}", "\n", "\udcff", "é中😀", "line", "blank-line"),
]


HASTE = {
    "tuning.roofline.TRIAL_SECONDS": 0.001,
    "tuning.roofline.STREAM_VALUES": 1 << 10,
    "tuning.roofline.ROWS": 16,
    "tuning.autotune.ROUNDS": 1,
    "tuning.autotune.SHARES": 10**6,
    "cli.bench.MEDIAN_WORDS": 3,
}
"""`quoit bench` does not measure well here, but soon."""


def subparsers() -> dict[str, ArgumentParser]:
    """The parser of each command."""
    actions = [action for action in make_parser()._actions if isinstance(action, _SubParsersAction)]
    return dict(actions[0].choices)


OPTIONS = {name: sorted(parser._option_string_actions) for name, parser in subparsers().items() if name != "serve"}
"""Of every command that ends by itself; `tests/server` has the other one."""


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with its own options and odd values, half of the time with what it needs to run."""
    command = draw(st.sampled_from(sorted(OPTIONS)))
    values = st.sampled_from(VALUES) | TEXTS.filter(lambda text: "\0" not in text)
    arguments: list[str] = [command]
    if draw(st.booleans()):
        arguments += draw(st.sampled_from([["a.txt"], ["q", "a.txt"], ["artifact"], ["q", "a.txt", UNDECODABLE]]))
        if "--model" in OPTIONS[command]:
            arguments += ["-m", "artifact"]
        if command == "embed":
            arguments += ["-o", draw(st.sampled_from(["out.npy", "out.jsonl", "out.parquet"]))]
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.integers(0, 3)):
            arguments.append(draw(st.sampled_from(OPTIONS[command])))
        if draw(st.integers(0, 2)):
            arguments.append(draw(values))
    return arguments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_artifact: Artifact, byte_checkpoint_folder: Path) -> Path:
    """A folder with what the command lines name."""
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("command-lines")
    (folder / "artifact").symlink_to(byte_artifact.folder)
    (folder / "checkpoint").symlink_to(byte_checkpoint_folder)
    shutil.copytree(byte_artifact.folder, folder / "damaged")
    with (folder / "damaged" / "fp32" / "model.onnx.data").open("r+b") as file:
        file.write(b"damage")
    (folder / "empty").mkdir()
    for name in ("a.txt", UNDECODABLE):
        (folder / name).write_text("one\ntwo\n\nthree \u202e\x1b[31m\n")
    (folder / "b.jsonl").write_text('"one"\n{"text": "two", "other": 5}\n{"text": "\\ud800"}\n')
    (folder / "c.csv").write_text("text,other\none,1\ntwo\n")
    parquet.write_table(pyarrow.table({"text": ["one", "two"], "other": [1, 2]}), folder / "d.parquet")
    (folder / "e.json").write_text('["one", {"text": "two"}, null, {"text": null}]')
    (folder / "f.tsv").write_text("text\tother\none\t1\ntwo\t2\n")
    (folder / "docs").mkdir()
    (folder / "docs" / "a.txt").write_text("three\n\n")
    (folder / "docs" / "c.csv.gz").write_bytes(gzip.compress(b"text;other\none;1\n"))
    (folder / "garbage.parquet").write_bytes(b"PAR1 garbage PAR1")
    (folder / "none.txt").touch()
    (folder / "latin1.txt").write_bytes("café".encode("latin-1"))
    np.save(folder / "ranges.npy", np.stack([np.full(96, -0.5), np.full(96, 0.5)]))
    (folder / "garbage.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': 'O'}   ")
    return folder


def run(arguments: list[str]) -> int:
    """The exit code."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return -1 if stop.code is None else int(stop.code)


@fuzz(700)
@given(command_lines())
def test_any_command_line_ends_in_an_exit_code(folder: Path, arguments: list[str]) -> None:
    """With standard streams as Python opens them: only standard error takes any character."""
    out, err = io.BytesIO(), io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("COLUMNS", "200")
        for constant, value in HASTE.items():
            patch.setattr(f"quoit.{constant}", value)
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
        patch.setattr("sys.stdout", io.TextIOWrapper(out, encoding="utf-8", write_through=True))
        patch.setattr(
            "sys.stderr", io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True)
        )
        code = run(arguments)
        shown, said = out.getvalue().decode(), err.getvalue().decode()
    assert code in (OK, FAILED, REFUSED)
    assert "Traceback" not in said
    if code == REFUSED:
        assert re.search(r"^quoit", said, re.MULTILINE)
    if code == FAILED:
        assert arguments[0] in ("doctor", "health")
        assert "FAIL" in shown or arguments[0] == "health"


def test_files_whose_names_are_not_utf8_are_searched(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Linux allows any bytes in a name; the table and the file show it in some way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arguments in ([], ["-o", "found.jsonl"], ["-o", "found.parquet"]):
            assert run(["search", "one", "a.txt", UNDECODABLE, "-m", "artifact", "--no-cache", *arguments]) == OK
            assert "caf" in capsys.readouterr().out


def test_nothing_but_a_name_is_needed_to_search_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["similarity", "one", "none.txt", "-m", "artifact"]) == OK
        assert run(["search", "one", "none.txt", "-m", "artifact", "--no-cache"]) == OK
    assert capsys.readouterr().out.count("rank") == 2
