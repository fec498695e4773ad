"""A rival in quoit's own process: the graph that optimum exports and quantizes, on token ids.

The same onnxruntime and as many threads as quoit. `python -m bench run` has it as its users run it, and other rivals.
"""

from pathlib import Path

import numpy as np
import onnxruntime

from bench.workloads import END_TOKEN, Workload


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
