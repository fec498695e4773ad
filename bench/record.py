"""What every result carries: when, what, where and with what it was measured."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quoit.machine import cpu_features, cpu_name

ROOT = Path(__file__).parent.parent
WORK = ROOT / ".bench"
"""Environments, rivals' models and raw measurements; git ignores it."""
RESULTS = Path(__file__).parent / "results"
KIB = 1024


def commit() -> str:
    """The commit that was measured."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def describe_run(threads: int) -> dict[str, Any]:
    """When, what, where and with what a result was measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {"cpu": cpu_name(), "features": cpu_features(), "threads": threads},
        "versions": {name: version(name) for name in ("onnxruntime", "numpy", "tokenizers")}
        | {"python": platform.python_version()},
    }
