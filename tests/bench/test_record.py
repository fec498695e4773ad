"""A result names a commit, so a changed tree is refused, and a trial of one never becomes a result."""

import json
import subprocess
from pathlib import Path

import pytest

from bench import record


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own with one commit, which `record` takes for this one."""
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "log").mkdir()
    (tmp_path / "code.py").write_text("1\n")
    (tmp_path / ".gitignore").write_text(".bench/\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "RESULTS", tmp_path / "bench" / "results")
    monkeypatch.setattr(record, "TRIALS", tmp_path / ".bench" / "trials")
    return tmp_path


def head(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_clean_tree_is_measured_and_its_result_names_the_commit(checkout: Path) -> None:
    recording = record.begin(trial=False)
    described = recording.describe(threads=2)
    assert described["commit"] == head(checkout)
    assert described["machine"]["threads"] == 2
    result = checkout / "bench" / "results" / "a.json"
    assert recording.write(result, described) == result
    assert json.loads(result.read_text())["commit"] == described["commit"]
    record.begin(trial=False)  # A new result does not make the tree dirty.


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_a_changed_tree_is_refused_by_name(checkout: Path, name: str) -> None:
    (checkout / name).write_text("2\n")
    with pytest.raises(SystemExit, match=rf"1 uncommitted changes \({name}\); commit them, or add --trial"):
        record.begin(trial=False)


def test_many_changes_are_counted_and_the_first_are_named(checkout: Path) -> None:
    for number in range(5):
        (checkout / f"new{number}.py").write_text("")
    with pytest.raises(SystemExit, match=r"5 uncommitted changes \(new0.py, new1.py, new2.py, \.\.\.\)"):
        record.begin(trial=False)


def test_a_folder_without_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="is no git checkout"):
        record.begin(trial=False)
    assert record.begin(trial=True).commit == "unknown"


def test_a_trial_never_writes_a_result(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "code.py").write_text("2\n")
    recording = record.begin(trial=True)
    assert recording.commit == f"{head(checkout)}-dirty"
    assert "results go to" in capsys.readouterr().err
    link = checkout / "link"
    link.symlink_to(checkout / "bench" / "results")
    for folder in (checkout / "bench" / "results", link, checkout / "bench" / "results" / "side-by-side"):
        assert recording.write(folder / "a.json", {}) == checkout / ".bench" / "trials" / "a.json"
    elsewhere = checkout / "elsewhere.json"
    assert recording.write(elsewhere, {}) == elsewhere
    assert list((checkout / "bench" / "results").iterdir()) == []


def test_a_tree_that_changes_during_the_measurement_loses_nothing(checkout: Path) -> None:
    recording = record.begin(trial=False)
    (checkout / "code.py").write_text("2\n")
    with pytest.raises(SystemExit, match=r"the tree changed during the measurement, .* in .*trials/a\.json"):
        recording.write(checkout / "bench" / "results" / "a.json", {"seconds": 1})
    assert json.loads((checkout / ".bench" / "trials" / "a.json").read_text()) == {"seconds": 1}
    assert list((checkout / "bench" / "results").iterdir()) == []
