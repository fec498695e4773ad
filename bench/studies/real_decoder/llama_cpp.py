"""llama.cpp on the same GGUF and the same token ids, in an environment of its own."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import ROOT, WORK
from bench.studies.real_decoder.closeness import States, closeness

PYTHON = WORK / "environments" / "llama-cpp" / "bin" / "python"
"""Interpreter of the environment that `python -m bench run` makes for llama.cpp."""
KINDS = {
    "stored": "llama.cpp, the file as it is (Q4_1), activations in 8 bits",
    "Q8_0": "llama.cpp, weights requantized to Q8_0, activations in 8 bits",
    "F32": "llama.cpp, everything in float32",
}
"""The ways of running the file, as the worker calls them, with their titles."""
LAST_WORDS = 300


def measure(python: Path, gguf: Path, rows: Sequence[Sequence[int]], reference: States) -> dict[str, Any]:
    """Return how near llama.cpp's states are to the reference's, or why they cannot be had.

    Args:
        python: an interpreter that has llama-cpp-python.
        gguf: the file.
        rows: token ids of each text, end token included.
        reference: states of fp32 [rows, hidden].
    """
    if not python.is_file():
        return {"unavailable": "the environment of llama.cpp is not there"}
    found: dict[str, Any] = {}
    for kind, title in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "states.npy"
            worker = [str(python), "-m", "bench.studies.real_decoder.llama_cpp_worker", str(gguf), kind, str(out)]
            done = subprocess.run(
                worker, cwd=ROOT, env=environment(), input=json.dumps(rows), capture_output=True, text=True, check=False
            )
            if done.returncode:
                found[title] = {"unavailable": f"exit {done.returncode}: {done.stderr.strip()[-LAST_WORDS:]}"}
            else:
                found[title] = closeness(np.load(out), reference)
    return found


def environment() -> dict[str, str]:
    """Return this process's variables without PYTHONPATH, whose packages belong to another environment."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
