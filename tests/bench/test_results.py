"""bench/results/README.md names every result, and says of each whether it can be trusted."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "bench" / "results"
TABLE = {
    name: line
    for line in (RESULTS / "README.md").read_text(encoding="utf-8").splitlines()
    for name in re.findall(r"^\| `([\w./-]+)` \|", line)
}


def commits(result: Any) -> list[str]:
    """Every commit that a result names, `-dirty` behind those of a tree with uncommitted changes."""
    if not isinstance(result, dict):
        return []
    if "commit_info" in result:
        found = result["commit_info"]
        return [found["id"][:12] + ("-dirty" if found["dirty"] else "")]
    own = [str(result["commit"])] if "commit" in result else []
    return own + [commit for part in result.values() for commit in commits(part)]


def test_the_table_names_what_is_there() -> None:
    there = {file.name + "/" * file.is_dir() for file in RESULTS.iterdir() if file.name != "README.md"}
    assert set(TABLE) == there


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.name)
def test_a_result_of_a_changed_tree_is_marked_stale(file: Path) -> None:
    found = commits(json.loads(file.read_text()))
    assert found
    assert all(f"`{commit}`" in TABLE[file.name] for commit in found)
    if any(commit.endswith("-dirty") for commit in found):
        assert "**stale**" in TABLE[file.name]


def test_the_log_index_names_every_entry_newest_first() -> None:
    log = RESULTS.parent / "log"
    entries = re.findall(r"^\| (\S+) \| \[(.+)\]\((.+)\) \|$", (log / "README.md").read_text(encoding="utf-8"), re.M)
    dates = [date for date, _, _ in entries]
    assert dates == sorted(dates, reverse=True)
    assert {file for _, _, file in entries} == {file.name for file in log.glob("*.md")} - {"README.md"}
    for date, title, file in entries:
        assert file.startswith(date)
        assert (log / file).read_text(encoding="utf-8").startswith(f"# {title}\n\n{date}\n\n")
