"""The README says what is so: its commands are those of CI, its table is the measured one, its files exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from quoit.artifact import Artifact

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def code_blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [block.strip() for block in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)]


def test_ci_runs_the_readme_test_command() -> None:
    """The set-up and the test run are CI's, word for word; CI puts the static gates between them."""
    command = next(block for block in code_blocks("sh") if "[test]" in block)
    setup, _, test = command.rpartition(" && ")
    lines = CI.splitlines()
    assert lines.index(setup) < lines.index(".venv/bin/mypy") < lines.index(test)


def test_the_first_command_runs(tmp_path: Path) -> None:
    """The README's main job, from after the installation on, in an empty models folder."""
    command = next(block for block in code_blocks("sh") if "random_checkpoint" in block)
    steps = command.replace("\\\n", " ").split(" && ")
    assert steps[0] == "python3 -m venv .venv"
    assert steps[1].strip() == ".venv/bin/pip install -e '.[demo]'"
    binaries = Path(sys.executable).parent
    job = " && ".join(steps[2:]).replace(".venv/bin/", f"{binaries}/")
    job = re.sub(r"models/(random\S*)", rf"{tmp_path}/\1", job.replace("models/random_checkpoint.py", "@"))
    job = job.replace("@", "models/random_checkpoint.py")
    done = subprocess.run(job, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "RANDOM weights; similarities and scores will mean NOTHING" in done.stdout
    assert re.search(r"int8 .*MB\n +cosine to fp32", done.stdout)
    ranked = re.findall(r"^ +(\d) +(-?\d\.\d{3}) +\d+  .+$", done.stdout, re.MULTILINE)
    assert [rank for rank, _ in ranked] == [str(number) for number in range(1, 8)]


def test_the_python_examples_run(
    artifact: Artifact, rerank_artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    embedding, reranking = code_blocks("python")
    exec(embedding.replace('"models/qwen3-embedding-0.6b"', repr(str(artifact.folder))), {})
    assert re.fullmatch(r"\[\[.*\]\s+\[.*\]\]\s*", capsys.readouterr().out, re.DOTALL)
    exec(reranking.replace('"models/qwen3-reranker-0.6b"', repr(str(rerank_artifact.folder))), {})
    (ranked,) = ast.literal_eval(capsys.readouterr().out)
    assert list(ranked) == ["index", "score", "text"]
    assert 0 < ranked["score"] < 1


def test_the_table_is_the_measured_one() -> None:
    """Every figure of the README's tables comes from bench/results."""
    table = subprocess.run(
        [sys.executable, "bench/table.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert table.strip() in README


def test_the_file_map_names_what_exists() -> None:
    listed = re.findall(r"^\| `([\w./]+)` \|", README, re.MULTILINE)
    assert len(listed) >= 15
    assert [path for path in listed if not (ROOT / path).exists()] == []
