"""What every result carries: when, what, where and with what it was measured.

A result names the commit that it measured, so the tree must be clean when a measurement begins and when it ends.
`--trial` measures a changed tree too; such a result is written below `.bench/trials` and never into `bench/results`.
"""

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quoit.files.atomic import replacing
from quoit.machine import cpu_features, cpu_name

ROOT = Path(__file__).parent.parent
WORK = ROOT / ".bench"
"""Folder of environments, rivals' models and raw measurements; git ignores it."""
RESULTS = Path(__file__).parent / "results"
TRIALS = WORK / "trials"
"""Folder of results of `--trial`."""
UNMEASURED = ("bench/results", "bench/log")
"""Folders whose changes do not make the tree dirty: results of an earlier measurement, and text about them."""
NAMED_FILES = 3
"""Maximum number of changed files that a message names."""
KIB = 1024


@dataclass(frozen=True)
class Recording:
    """A measurement that has begun.

    Attributes:
        commit: the commit that is measured; `-dirty` behind it in a trial of a changed tree.
        trial: whether the result stays out of `bench/results`.
    """

    commit: str
    trial: bool

    def describe(self, threads: int) -> dict[str, Any]:
        """When, what, where and with what the result was measured."""
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": self.commit,
            "machine": {"cpu": cpu_name(), "features": cpu_features(), "threads": threads},
            "versions": {name: version(name) for name in ("onnxruntime", "numpy", "tokenizers")}
            | {"python": platform.python_version()},
        }

    def place(self, file: Path) -> Path:
        """The file that the result is written to: a trial's never lies in `bench/results`."""
        return TRIALS / file.name if self.trial and is_result(file) else file

    def write(self, file: Path, result: dict[str, Any]) -> Path:
        """Writes the result as JSON, and returns the file.

        Raises:
            SystemExit: the tree or its commit changed during the measurement, so the result was written as a trial's.
        """
        now = None if self.trial else tree_state()
        moved = now is not None and (bool(now[1]) or now[0] != self.commit) and is_result(file)
        place = TRIALS / file.name if moved else self.place(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as draft:
            draft.write_text(json.dumps(result, indent=2) + "\n")
        if moved:
            raise SystemExit(f"bench: the tree changed during the measurement, so the result is in {place}")
        return place


def add_trial(parser: argparse.ArgumentParser) -> None:
    """The argument that lets a changed tree be measured."""
    parser.add_argument(
        "--trial",
        action="store_true",
        help="measure a tree with uncommitted changes too; the result goes below .bench/trials, not to bench/results",
    )


def begin(*, trial: bool) -> Recording:
    """Begins a measurement.

    Raises:
        SystemExit: the tree has uncommitted changes, or is no git checkout, and `trial` is false.
    """
    commit, changed = tree_state()
    if not trial and not commit:
        raise SystemExit(f"bench: {ROOT} is no git checkout, so a result has no commit; add --trial to measure it")
    if not trial and changed:
        named = ", ".join(changed[:NAMED_FILES]) + (", ..." if len(changed) > NAMED_FILES else "")
        raise SystemExit(
            f"bench: the tree has {len(changed)} uncommitted changes ({named}); commit them, or add --trial: "
            "the result then goes below .bench/trials"
        )
    if trial:
        print(f"bench: a trial; results go to {TRIALS} and not to bench/results", file=sys.stderr)
    return Recording(f"{commit}-dirty" if changed else commit or "unknown", trial)


def tree_state() -> tuple[str, list[str]]:
    """The checkout's commit in twelve digits, "" where there is none, and its changed files."""
    commit = git(ROOT, "rev-parse", "--short=12", "HEAD").strip()
    ignored = [f":(exclude){folder}" for folder in UNMEASURED]
    changed = git(ROOT, "status", "--porcelain", "--", ".", *ignored) if commit else ""
    return commit, [line[3:] for line in changed.splitlines()]


def git(root: Path, *arguments: str) -> str:
    """What git prints; nothing where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def is_result(file: Path) -> bool:
    """Whether a file lies in `bench/results`."""
    return file.resolve().is_relative_to(RESULTS.resolve())
