"""Batches for libraries that pad and leave batching to the caller: sorted by length, eight at a time.

Their documentation shows one padded batch; sorting is what any careful user adds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.side_by_side.workers.protocol import Vectors

BATCH_TEXTS = 8


def run_sorted(texts: list[str], tokenizer: Any, run: Callable[[dict[str, Any]], Any]) -> Vectors:
    """The last tokens' states as unit rows, in the order of the texts.

    Args:
        texts: the texts.
        tokenizer: of transformers; it pads on the right here.
        run: from numpy inputs [n, width] to states [n, width, hidden].
    """
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    order = sorted(range(len(texts)), key=lambda position: -lengths[position])
    vectors: list[Vectors] = [np.empty(0, np.float32)] * len(texts)
    for start in range(0, len(order), BATCH_TEXTS):
        batch = order[start : start + BATCH_TEXTS]
        inputs = dict(tokenizer([texts[position] for position in batch], padding=True, return_tensors="np"))
        inputs["position_ids"] = np.tile(np.arange(inputs["input_ids"].shape[1]), (len(batch), 1))
        states = run(inputs)
        last = inputs["attention_mask"].sum(axis=1) - 1
        for line, position in enumerate(batch):
            vectors[position] = states[line, last[line]]
    found = np.stack(vectors).astype(np.float32)
    unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit
