"""Running the command `quoit` in tests: in this process or in one of its own, and reading what it wrote."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds that a command may take on a busy machine."""

Outcome = tuple[int, str, str]
"""Exit code, standard output, standard error."""
Quoit = Callable[..., Outcome]
Records = list[dict[str, Any]]

RUN = ["--precision", "fp32", "--provider", "cpu"]
"""Options that run the variant whose results tests compare bit by bit."""


def run_process(*arguments: object, stdin: bytes = b"", **variables: str) -> Outcome:
    """Runs the command line in a process of its own."""
    command = [sys.executable, "-m", "quoit", *map(str, arguments)]
    environment = os.environ | variables
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE, check=False, env=environment)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def read_jsonl(file: Path) -> Records:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
