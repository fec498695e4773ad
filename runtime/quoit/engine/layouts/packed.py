"""Make the inputs of the packed layout: a stream of distinct tokens without padding, and a rectangle for attention.

Every distinct token prefix of a batch is in the stream once. A token of a cached prefix is not in the stream. Attention
gathers its rectangle from the stream and the cached prefix.

Sizes: T stream tokens, R rows, S positions of the longest row, P tokens of a cached prefix, K tokens to keep, N rows to
answer.
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

    input_ids        the stream's token ids
    attention_index  the token at each position of the rectangle: a number below P is a token of the cached prefix, a
                     number from P on is a token of the stream; padding repeats the row's last token
    row_lengths      number of positions that attention sees of each row, minus one
    stream_slot      place of each stream token in the flattened [R * S] output of attention
    last_row         the stream token whose state answers each row
    tiled_attention  True if attention runs in tiles with bounded memory, False if on the full score matrix
"""

KEPT_ROW = GraphInput("kept_row", "int64", ("K",))
PAST = (
    GraphInput("past_key_values.{layer}.key", "float32", ("P", "kv_width")),
    GraphInput("past_key_values.{layer}.value", "float32", ("P", "kv_width")),
)
"""Inputs for the keys and values of a cached prefix; keys are normalised and have no positions (RoPE) yet."""
PRESENT, PAST_KEY_VALUES = "present", "past_key_values"
"""Beginnings of the names of the graph's outputs of keys and values, and of the inputs that take them."""


def make_inputs(batch: Batch) -> Inputs:
    """Make the inputs of a batch; see REQUIRED."""
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


def no_lone_row(inputs: Inputs) -> Inputs:
    """Repeat the token of a stream of one, and the answer of a batch of one.

    With a single row, onnxruntime's four-bit product (MatMulNBits) takes another kernel on some CPUs, which rounds
    differently (x86 with AVX2 alone).
    """
    found = dict(inputs)
    for first, names in (("input_ids", ("input_ids", "stream_slot")), ("last_row", ("last_row",))):
        if len(inputs[first]) == 1:
            found |= {name: np.repeat(inputs[name], 2) for name in names}
    return found


def request_prefix(batch: Batch) -> Inputs:
    """Make the inputs of a run that returns the keys and values of all tokens of a batch's only row."""
    return {**make_inputs(batch), KEPT_ROW.name: np.arange(batch.stream_tokens, dtype=np.int64)}


def past(outputs: Mapping[str, NDArray[Any]]) -> Inputs:
    """Turn the keys and values that a run returned into inputs of later runs; copies, to free the session's memory."""
    return {name.replace(PRESENT, PAST_KEY_VALUES): np.array(values) for name, values in outputs.items()}


LAYOUT = Layout(
    InputContract(REQUIRED, prefix=(KEPT_ROW, *PAST), no_lone_row=no_lone_row),
    make_inputs,
    PrefixCaching(request=request_prefix, past=past),
)
