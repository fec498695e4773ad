"""The command `quoit-export`: what it prints, where, and with which exit code."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from oracle import make_model, make_reranker, save_checkpoint, save_rerank_checkpoint
from quoit.artifact import read_artifact
from quoit_export.cli import main, make_parser
from quoit_export.precisions.table import PRECISIONS
from support import byte_tokenizer, edit_json, without_modules

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    """A checkpoint that is small but for its genuine vocabulary. Read-only."""
    model = make_model(hidden_size=32, num_hidden_layers=2)
    return save_checkpoint(tmp_path_factory.mktemp("small") / "model", tokenizer_file, model)


@pytest.fixture
def changed_folder(tmp_path: Path, small_folder: Path) -> Path:
    """A copy of the checkpoint, to be changed."""
    shutil.copytree(small_folder, tmp_path / "changed")
    return tmp_path / "changed"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; gives its exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def assert_refused(found: tuple[int, str, str], message: str) -> None:
    """Exit code 2 and one line on stderr."""
    code, out, err = found
    assert code == 2
    assert out == ""
    assert err.startswith("quoit-export: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert re.search(message, err), err


def test_an_export_prints_sizes_and_cosines(run: Run, tmp_path: Path, small_folder: Path) -> None:
    code, out, _ = run(small_folder, tmp_path / "out")
    assert code == 0
    lines = out.splitlines()
    assert re.fullmatch(rf"{tmp_path / 'out'}: model, embedding, 32 dimensions, \d+\.\d s", lines[0])
    assert re.fullmatch(r"  fp32 +\d\d\.\d MB", lines[1])
    assert re.fullmatch(r"  int8 +\d+\.\d MB", lines[2])
    measured = ("held-out texts", "calibration texts", "held-out texts with 7-bit activations")
    floors = {
        "cosine": r"floor 0\.985, floor of the mean 0\.995",
        "centred": r"floor 0\.8, floor of the mean 0\.95",
        "top10": r"floor of the mean 0\.8",
    }
    value = r"[01]\.\d{6}"
    expected = [
        rf" +{measure} to fp32: mean {value}, least {value} of \d+ {texts} \({floors[measure]}\)"
        for texts, measure in product(measured, floors)
    ]
    snippets = {"cosine": r"floor of the mean 0\.95", "centred": r"floor of the mean 0\.85"}
    expected[6:6] = [
        rf" +{measure} to fp32: mean {value}, least {value} of \d+ snippet texts \({floor}\)"
        for measure, floor in snippets.items()
    ]
    for line, pattern in zip(lines[3:14], expected, strict=True):
        assert re.fullmatch(pattern, line)
    assert re.fullmatch(
        r" +\S.*: predicted error \S+, \S+ to \S+ for \d+ other methods, on 128 built-in texts", lines[14]
    )
    assert len(lines) == 15
    assert list(read_artifact(tmp_path / "out").manifest.variants) == ["fp32", "int8"]


def test_verification_prints_its_cosine_and_nothing_else(run: Run, tmp_path: Path, small_folder: Path) -> None:
    """transformers draws its own progress, which has no place where stderr is no terminal."""
    code, out, err = run(small_folder, tmp_path / "out", "--precision", "fp32", "--verify")
    assert code == 0
    cosine = r"cosine to transformers fp32: mean (1\.000000|0\.9999\d\d), least (1\.000000|0\.9999\d\d) of \d+ held-out"
    assert re.search(cosine, out)
    assert err == ""


def test_no_progress_is_drawn_where_stderr_is_no_terminal(tmp_path: Path, small_folder: Path) -> None:
    command = [sys.executable, "-m", "quoit_export", str(small_folder), str(tmp_path / "out")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0
    assert "fp32" in found.stdout
    assert found.stderr == ""


def test_a_warning_begins_with_the_programs_name(tmp_path: Path, plain_tokenizer_file: Path) -> None:
    """In a process of its own: here pytest has set up logging already."""
    model = make_reranker(hidden_size=32, num_hidden_layers=1)
    folder = save_rerank_checkpoint(tmp_path / "reranker", plain_tokenizer_file, model)
    command = [sys.executable, "-m", "quoit_export", str(folder), str(tmp_path / "out"), "--task", "rerank"]
    found = subprocess.run([*command, "--precision", "fp32"], capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0
    assert re.fullmatch(rf"quoit-export: {folder} has Qwen3-Reranker's template: .*\n", found.stderr), found.stderr


def test_a_precision_said_twice_is_written_once(run: Run, tmp_path: Path, small_folder: Path) -> None:
    code, out, _ = run(small_folder, tmp_path / "out", "--precision", "fp32", "fp32")
    assert code == 0
    assert out.count("fp32") == 1


def test_a_kept_rejection_is_marked(
    run: Run, tmp_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRECISIONS["int8"].floors, "cosine", 1.1)
    assert_refused(run(small_folder, tmp_path / "out"), "nothing was published, int8: .*--keep-rejected")
    assert not (tmp_path / "out").exists()
    code, out, _ = run(small_folder, tmp_path / "out", "--keep-rejected")
    assert code == 0
    assert re.search(r"int8 +[\d.]+ MB  REJECTED", out)
    assert not re.search("fp32 .*REJECTED", out)


@pytest.mark.parametrize("name", ["no/such/folder", "missing"])
def test_a_checkpoint_that_is_not_there_is_one_line(run: Run, tmp_path: Path, name: str) -> None:
    assert_refused(run(name, tmp_path / "out"), "is no folder, and no hub id")


def test_a_folder_that_is_no_checkpoint_is_one_line(run: Run, tmp_path: Path) -> None:
    assert_refused(run(tmp_path, tmp_path / "out"), r"config\.json is missing; .* is not a complete checkpoint")


def test_an_unreachable_hub_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert_refused(run("some/model", tmp_path / "out"), "cannot fetch some/model from the hub")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type 'llama'"),
        ({"num_hidden_layers": 9}, "lacks 77 of 101 tensors"),
        ({"hidden_size": 64}, r"has shape \[151669, 32\]"),
        ({"max_position_embeddings": None}, "max_position_embeddings None"),
        ({"vocab_size": 100}, r"embed_tokens\.weight has shape"),
    ],
)
def test_a_bad_configuration_is_one_line(
    run: Run, tmp_path: Path, changed_folder: Path, changes: dict[str, Any], message: str
) -> None:
    edit_json(changed_folder / "config.json", **changes)
    assert_refused(run(changed_folder, tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_one_line(run: Run, tmp_path: Path, changed_folder: Path) -> None:
    shard = changed_folder / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert_refused(run(changed_folder, tmp_path / "out"), "is no readable safetensors file")


def test_a_revision_of_a_folder_is_one_line(run: Run, tmp_path: Path, small_folder: Path) -> None:
    assert_refused(run(small_folder, tmp_path / "out", "--revision", "main"), "has no revision 'main'")


def test_an_occupied_folder_is_one_line(run: Run, tmp_path: Path, small_folder: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert_refused(run(small_folder, tmp_path / "out"), "holds something else")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_folder_below_a_file_is_one_line(run: Run, tmp_path: Path, small_folder: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert_refused(run(small_folder, tmp_path / "file" / "out"), "file")


@pytest.mark.parametrize("tied", [True, False])
def test_a_reranker_is_recognised_and_exported(
    run: Run, tmp_path: Path, plain_tokenizer_file: Path, tied: bool
) -> None:
    """As transformers saves a language model: no pooling, and the decoder called `model.`."""
    model = make_reranker(hidden_size=32, num_hidden_layers=1, tie_word_embeddings=tied)
    folder = save_rerank_checkpoint(tmp_path / "reranker", plain_tokenizer_file, model)
    code, out, err = run(folder, tmp_path / "out", "--verify")
    assert code == 0
    assert err == ""
    lines = out.splitlines()
    assert re.fullmatch(rf"{tmp_path / 'out'}: reranker, rerank, 32 dimensions, \d+\.\d s", lines[0])
    number = r"[01]\.\d{6}"
    for start, name, reference, agreement, spearman in (
        (1, "fp32", "transformers fp32", "0.99999", "0.9999"),
        (4, "int8", "fp32", "0.9", "0.8"),
    ):
        assert re.fullmatch(rf"  {name} +\d+\.\d MB", lines[start])
        for line, measure, count, floor in (
            (lines[start + 1], "agreement", "128 held-out pairs", agreement),
            (lines[start + 2], "spearman", "4 held-out queries", spearman),
        ):
            measured = rf" +{measure} to {reference}: mean {number}, least {number} of {count} \(floor {floor}\)"
            assert re.fullmatch(measured, line), line
    assert ["128 calibration pairs" in line for line in lines[7:]] == [True, *[False] * 4]
    assert ["7-bit activations" in line for line in lines[9:]] == [True, True, False]
    assert len(lines) == 12
    assert read_artifact(tmp_path / "out").manifest.task == "rerank"


def test_an_embedding_checkpoint_is_exported_for_reranking_when_asked_to(
    run: Run, tmp_path: Path, changed_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = without_modules(changed_folder)
    code, out, _ = run(folder, tmp_path / "out", "--task", "rerank", "--precision", "fp32", "--verify")
    assert code == 0
    assert f": {folder.name}, rerank, 32 dimensions, " in out
    assert "pairs use the official Qwen3-Reranker template, scores come from the tokens yes (9693)" in caplog.text
    assert read_artifact(tmp_path / "out").manifest.task == "rerank"


def test_an_answer_that_is_not_a_single_token_is_one_line(run: Run, tmp_path: Path, changed_folder: Path) -> None:
    """A tokenizer of bytes spells `yes` with three."""
    tokenizer = byte_tokenizer()
    tokenizer.save(str(without_modules(changed_folder) / "tokenizer.json"))
    found = run(changed_folder, tmp_path / "out", "--task", "rerank")
    assert_refused(found, "makes 3 tokens of 'yes', and a reranker answers with one")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: checkpoint, out"),
        (["in", "out", "--precision", "fp8"], "invalid choice: 'fp8'"),
        (["in", "out", "--task", "chat"], "invalid choice: 'chat'"),
        (["in", "out", "--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_usage_is_explained(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "texts to make fp16 and int8 and int4 with" in " ".join(out.split())
    for option in ("--precision", "--task", "--revision", "--verify", "--keep-rejected", "--overwrite"):
        assert option in out


def test_by_default_fp32_and_int8_are_written() -> None:
    assert make_parser().parse_args(["in", "out"]).precision == ["fp32", "int8"]
