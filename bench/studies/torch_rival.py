"""The rival on a GPU: transformers' Qwen3Model as sentence-transformers runs it, from token ids.

Rows sorted by length, batches padded on the left, scaled dot product attention, the last token's state, normalised,
copied to the CPU batch by batch. Tokenization is left out, as it is for quoit.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen3Model

from bench.corpora.tokens import TokenWorkload


def load_model(checkpoint: Path, dtype: torch.dtype, device: str) -> Any:
    """A checkpoint in one type on one device."""
    loaded: Any = Qwen3Model.from_pretrained(checkpoint, dtype=dtype, attn_implementation="sdpa")
    return loaded.to(device).eval()


@dataclass(frozen=True)
class TorchModel:
    """A loaded model, and how many rows a batch has."""

    model: Any
    device: str
    batch_rows: int

    def run(self, workload: TokenWorkload) -> NDArray[np.float32]:
        """The unit vectors of the rows, [n, hidden], in the order of the rows."""
        rows = workload.rows
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        found = np.empty((len(rows), self.model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_rows):
                some = order[start : start + self.batch_rows]
                width = max(len(rows[row]) for row in some)
                ids = np.zeros((len(some), width), np.int64)
                mask = np.zeros_like(ids)
                for line, row in enumerate(some):
                    ids[line, width - len(rows[row]) :] = rows[row]
                    mask[line, width - len(rows[row]) :] = 1
                inputs = {"input_ids": ids, "attention_mask": mask}
                fed = {name: torch.from_numpy(values).to(self.device) for name, values in inputs.items()}
                states = self.model(**fed, use_cache=False).last_hidden_state[:, -1].float()
                found[some] = torch.nn.functional.normalize(states).cpu().numpy()
        return found


def matmul_ceiling(dtype: torch.dtype, device: str, size: int, rounds: int = 20) -> float:
    """The best rate of a square matrix product in FLOP/s, of several rounds."""
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(rounds):
        wait(device)
        start = time.perf_counter()
        left @ right
        wait(device)
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def device_name(device: str) -> str:
    """The device's name, for a file's name."""
    return str(torch.cuda.get_device_name()) if device == "cuda" else "cpu"
