"""Make the inputs of the padded layout: a rectangle of rows, each padded with its last token.

On CUDA, gathering tokens from a stream takes longer than computing padding. Padding after a row's end changes no state
of the row's own tokens, since the model is causal.

Sizes: R rows, S tokens of the longest row, T = R * S, N rows to answer.
"""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from quoit.engine.layouts import Layout
from quoit.engine.planner import Batch, Ids
from quoit.ort.graph_inputs import GraphInput, InputContract, Inputs

REQUIRED = (
    GraphInput("input_ids", "int64", ("T",)),
    GraphInput("row_lengths", "int32", ("R",)),
    GraphInput("last_row", "int64", ("N",)),
    GraphInput("longest_row", "int32", (), memory="cpu"),
    GraphInput("rectangle", "int64", (3,), memory="cpu"),
)
"""The inputs of every run.

    input_ids    token ids of the rectangle, row by row
    row_lengths  number of tokens of each row, minus one
    last_row     place in input_ids of the token whose state answers each row
    longest_row  S
    rectangle    R, S and -1
"""


def make_inputs(batch: Batch) -> Inputs:
    """Make the inputs of a batch whose rows share nothing; see REQUIRED."""
    rows, longest = len(batch.rows), max(map(len, batch.rows))
    lengths = np.array([len(row) for row in batch.rows], np.int32)
    return {
        "input_ids": np.concatenate([continued(row, longest) for row in batch.rows]),
        "row_lengths": lengths - 1,
        "last_row": np.arange(rows) * longest + (lengths - 1),
        "longest_row": np.array(longest, np.int32),
        "rectangle": np.array([rows, longest, -1]),
    }


def fixed_shape(inputs: Inputs, lengths: Sequence[int]) -> Inputs | None:
    """Pad a single short row to the first of some ascending lengths that holds it, and return its inputs.

    `row_lengths` counts the padding as tokens of the row; only `last_row` says where the row's own last token is.
    Return None for several rows, or for a row longer than all lengths.
    """
    ids = inputs["input_ids"]
    if len(inputs["row_lengths"]) != 1 or len(ids) > lengths[-1]:
        return None
    length = lengths[bisect_left(lengths, len(ids))]
    return {
        "input_ids": continued(ids, length),
        "row_lengths": np.array([length - 1], np.int32),
        "last_row": inputs["last_row"],
        "longest_row": np.array(length, np.int32),
        "rectangle": np.array([1, length, -1]),
    }


def continued(ids: Ids, length: int) -> Ids:
    """Return the ids, padded with copies of the last one to [length]."""
    return np.concatenate([ids, np.full(length - len(ids), ids[-1])])


LAYOUT = Layout(InputContract(REQUIRED, fixed_shape=fixed_shape), make_inputs)
