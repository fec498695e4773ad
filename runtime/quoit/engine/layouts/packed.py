"""The packed layout: a stream of distinct tokens without padding, and the rectangle that attention gathers from it.

Every distinct token prefix of a batch is in the stream once. A token of a cached prefix is not in the stream at all.

T stream tokens, R rows, S positions of the longest of them, P tokens of a cached prefix, K tokens to keep.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit.engine.layouts import Layout, PrefixCaching
from quoit.engine.planner import Batch, Ids
from quoit.ort.graph_inputs import GraphInput, InputContract, Inputs

REQUIRED = (
    GraphInput("input_ids", "int64", ("T",)),
    GraphInput("attention_index", "int64", ("R", "S")),
    GraphInput("row_lengths", "int32", ("R",)),
    GraphInput("stream_slot", "int64", ("T",)),
    GraphInput("last_row", "int64", ("N",)),
    GraphInput("tiled_attention", "bool", (), memory="cpu"),
)
"""The inputs of every run.

    input_ids        the stream
    attention_index  the token behind each position of the rectangle: below P one of the cached prefix, from P on one of
                     the stream; padding repeats the row's last token
    row_lengths      positions that attention sees of each row, minus one
    stream_slot      the place of each stream token in the flattened [R * S] output of attention
    last_row         the stream token whose state answers each row
    tiled_attention  whether attention runs in tiles with bounded memory, or on the full score matrix
"""

KEPT_ROW = GraphInput("kept_row", "int64", ("K",))
PAST = (
    GraphInput("past_key_values.{layer}.key", "float32", ("P", "kv_width")),
    GraphInput("past_key_values.{layer}.value", "float32", ("P", "kv_width")),
)
"""Keys and values of a cached prefix; keys are normalised and have no positions yet."""
PRESENT, PAST_KEY_VALUES = "present", "past_key_values"
"""How the graph's outputs of keys and values begin, and the inputs that take them again."""


def make_inputs(batch: Batch) -> Inputs:
    """The inputs of a batch; see REQUIRED."""
    index = np.zeros((len(batch.rows), batch.width), np.int64)
    ids: list[Ids] = []
    slots: list[Ids] = []
    start = batch.prefix_tokens
    for number, (row, shared, cached) in enumerate(
        zip(batch.rows, batch.shared_tokens, batch.cached_tokens, strict=True)
    ):
        known = max(shared, cached)
        if shared:
            index[number, :shared] = index[number - 1, :shared]
        if cached > shared:
            index[number, :cached] = np.arange(cached)
        tail = len(row) - known
        index[number, known : len(row)] = np.arange(start, start + tail)
        index[number, len(row) :] = start + tail - 1
        slots.append(np.arange(known, len(row)) + number * batch.width)
        ids.append(row[known:])
        start += tail
    return {
        "input_ids": np.concatenate(ids),
        "attention_index": index,
        "row_lengths": batch.positions - 1,
        "stream_slot": np.concatenate(slots),
        "last_row": index[:, -1] - batch.prefix_tokens,
        "tiled_attention": np.array(batch.is_tiled),
    }


def request_prefix(batch: Batch) -> Inputs:
    """The inputs of a run that gives the keys and values of all tokens of its one row."""
    return {**make_inputs(batch), KEPT_ROW.name: np.arange(batch.stream_tokens, dtype=np.int64)}


def past(outputs: Mapping[str, NDArray[Any]]) -> Inputs:
    """Keys and values that a run gave, as inputs of later runs; copies, so that they hold nothing of the session's."""
    return {name.replace(PRESENT, PAST_KEY_VALUES): np.array(values) for name, values in outputs.items()}


LAYOUT = Layout(
    InputContract(REQUIRED, prefix=(KEPT_ROW, *PAST)), make_inputs, PrefixCaching(request=request_prefix, past=past)
)
