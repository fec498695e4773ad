"""How the project is worked on: CI runs what the README names, in the versions that are written down."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from test_readme import ROOT, code_blocks

SCRIPTS = ROOT / "scripts"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
STEPS = ["scripts/setup", "scripts/check", "scripts/test"]


def lines_of(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def test_ci_runs_the_readme_test_command() -> None:
    """Word for word and in this order, in a fresh environment that is not the one people work in."""
    assert " && ".join(STEPS) in code_blocks("sh")
    lines = lines_of(ROOT / ".ci" / "run")
    assert lines[-3:] == STEPS
    assert lines.index("export QUOIT_VENV=.ci/venv") < lines.index('rm -rf "$QUOIT_VENV"') < lines.index(STEPS[0])


def test_each_step_runs_what_it_is_to_run() -> None:
    setup, check, test = (lines_of(ROOT / step) for step in STEPS)
    assert setup[-2:] == ['python3 -m venv "$venv"', """"$venv/bin/pip" install -c constraints.txt -e '.[test]'"""]
    tools = [line.removeprefix('"$bin/').replace('"', "") for line in check[-4:]]
    assert tools == ["ruff format --check .", "ruff check .", "mypy", "lint-imports"]
    assert "set -- -n 2 --dist loadfile" in test[-2]
    assert test[-1] == 'exec "${QUOIT_VENV:-.venv}/bin/pytest" "$@"'


@pytest.mark.parametrize("script", sorted(SCRIPTS.iterdir()), ids=lambda script: script.name)
def test_a_script_ends_at_the_first_failure_and_begins_in_the_repository(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert lines_of(script)[:2] == ["set -euo pipefail", 'cd "$(dirname "$0")/.."']
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_a_script_runs_from_any_folder_in_the_environment_that_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"QUOIT_VENV": str(Path(sys.executable).parent.parent)}
    command = [str(SCRIPTS / "test"), "--collect-only", "-q", "-p", "no:cacheprovider", "tests/runtime/test_planner.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "tests/runtime/test_planner.py::" in done.stdout
    broken = subprocess.run(
        [str(SCRIPTS / "check")],
        cwd=tmp_path,
        env=os.environ | {"QUOIT_VENV": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert broken.returncode != 0


def test_constraints_hold_every_dependency_in_a_version_that_is_allowed() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", CONSTRAINTS, re.MULTILINE))
    wanted = [Requirement(line) for line in requires("quoit") or []]
    needed = [item for item in wanted if item.name != "quoit" and in_tests(item)]
    assert len(needed) > 20
    assert {item.name: pinned.get(item.name.lower()) for item in needed if not allows(item, pinned)} == {}


def in_tests(item: Requirement) -> bool:
    """Whether the extra `test` takes it."""
    extras = ("", "cpu", "markdown", "parquet", "export", "verify", "test")
    return item.marker is None or any(item.marker.evaluate({"extra": extra}) for extra in extras)


def allows(item: Requirement, pinned: dict[str, str]) -> bool:
    return item.name.lower() in pinned and item.specifier.contains(pinned[item.name.lower()])


def test_constraints_name_no_place_to_fetch_from() -> None:
    assert "//" not in CONSTRAINTS
    assert "--" not in CONSTRAINTS


def test_the_commit_hook_has_the_ruff_of_the_checks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (ruff,) = (line for line in project["project"]["optional-dependencies"]["test"] if line.startswith("ruff=="))
    assert f"rev: v{ruff.removeprefix('ruff==')}\n" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


def test_contributing_names_what_exists_and_is_short() -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", CONTRIBUTING)
    assert len(named) >= 15
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert len(CONTRIBUTING.split()) <= 700


def test_the_changelog_has_the_unreleased_changes_and_every_heading_is_known() -> None:
    first, *_ = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert first == "[Unreleased]"
    kinds = {"Do this first", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)) <= kinds
