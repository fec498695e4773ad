"""Rival systems: their environments, made from pinned requirements, and how they are run.

The optimum rival is the graph that its own documentation leads to (`optimum-cli export onnx`, then
`optimum-cli onnxruntime quantize --avx512_vnni --per_channel`), on the same onnxruntime, in the same process,
with as many threads as quoit.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from bench.workloads import END_TOKEN, Workload

REQUIREMENTS = Path(__file__).parent / "requirements"
Run = Callable[[], np.ndarray]


def optimum_graphs(checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """optimum's fp32 graph and its int8 graph of a checkpoint, made once."""
    plain, quantized = folder / "optimum-fp32", folder / "optimum-int8"
    if not (quantized / "model_quantized.onnx").is_file():
        python = _environment(folder / "optimum-env", REQUIREMENTS / "optimum.txt")
        command = [str(python.parent / "optimum-cli")]
        export = ["export", "onnx", "--model", str(checkpoint), "--task", "feature-extraction"]
        subprocess.run([*command, *export, "--library-name", "transformers", str(plain)], check=True)
        quantize = ["onnxruntime", "quantize", "--onnx_model", str(plain), "--avx512_vnni", "--per_channel"]
        subprocess.run([*command, *quantize, "-o", str(quantized)], check=True)
    return plain / "model.onnx", quantized / "model_quantized.onnx"


def _environment(folder: Path, requirements: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(requirements)], check=True)
    return python


class OptimumGraph:
    """An optimum graph, fed padded batches of rows sorted by length."""

    def __init__(self, model: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def run(self, workload: Workload) -> np.ndarray:
        """The last tokens' states, [n, hidden], in the order of the rows."""
        order = sorted(range(len(workload.rows)), key=lambda row: -len(workload.rows[row]))
        states: list[np.ndarray] = [np.empty(0)] * len(order)
        for start in range(0, len(order), workload.padded_batch):
            batch = order[start : start + workload.padded_batch]
            lengths = np.array([len(workload.rows[row]) for row in batch])
            width = lengths.max()
            ids = np.full((len(batch), width), END_TOKEN, np.int64)
            for line, row in enumerate(batch):
                ids[line, : lengths[line]] = workload.rows[row]
            positions = np.arange(width)
            feed = {
                "input_ids": ids,
                "attention_mask": (positions < lengths[:, None]).astype(np.int64),
                "position_ids": np.tile(positions, (len(batch), 1)),
            }
            (found,) = self.session.run(["last_hidden_state"], feed)
            for line, row in enumerate(batch):
                states[row] = found[line, lengths[line] - 1]
        return np.stack(states)
