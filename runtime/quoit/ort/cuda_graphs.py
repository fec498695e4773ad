"""Single short texts on CUDA: a run of the model that was captured as a CUDA graph, and is replayed.

The kernels of one short text take less time than their launches one by one. onnxruntime captures all of them in one
CUDA graph, whose shapes and addresses may not change after that (https://onnxruntime.ai/docs/execution-providers/
CUDA-ExecutionProvider.html, "CUDA Graphs"). So a text is continued to the next of a few lengths, which changes no
state of its own tokens, since the model is causal. What differs between texts are the ids and where the last one is,
and these are copied into buffers that stay. This module knows of onnxruntime only what it is handed.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit.engine.planner import Batch, Ids, batch_of

LENGTHS = (16, 32, 64, 128, 256)
"""Tokens; few, since each has a captured run of its own, and a GPU has to read all weights for 16 tokens as for 128."""
CAPTURE_OPTIONS = {"enable_cuda_graph": "1"}
GRAPH_ID = "gpu_graph_id"
NOT_CAPTURED = "-1"
IN_CPU_MEMORY = ("longest_row", "rectangle", "tiled_attention")
"""Inputs that are no values but shapes and choices; the same for all texts of one length."""

Inputs = Mapping[str, NDArray[Any]]


def run_options(onnxruntime: Any, graph_id: str = NOT_CAPTURED) -> Any:
    """The options of a run that is captured under a number and then replayed, or is neither."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(GRAPH_ID, graph_id)
    return options


@dataclass(frozen=True)
class _Bound:
    """The buffers of one length: bound to the session once, so that their addresses stay."""

    options: Any
    binding: Any
    ids: Any
    last_row: Any
    answer: Any


class Replays:
    """Captured runs of a session, one for each of LENGTHS that was met."""

    def __init__(self, onnxruntime: Any, session: Any, device: str, inputs_of: Callable[[Batch], Inputs]) -> None:
        """Captures nothing yet.

        Args:
            onnxruntime: the module.
            session: the model, loaded with CAPTURE_OPTIONS.
            device: where its buffers are to lie, `cuda` or `cpu`.
            inputs_of: a batch's inputs by name.
        """
        self._onnxruntime = onnxruntime
        self._session = session
        self._device = device
        self._inputs_of = inputs_of
        self._bound: dict[int, _Bound] = {}

    @staticmethod
    def takes(batch: Batch) -> bool:
        """Whether a batch is one text that is short enough."""
        return len(batch.row_lengths) == 1 and not batch.prefix_tokens and len(batch.input_ids) <= LENGTHS[-1]

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """The answer to a batch of one short text, [1, *answer_shape]; one call at a time."""
        ids = batch.input_ids
        length = LENGTHS[bisect_left(LENGTHS, len(ids))]
        if length not in self._bound:
            self._bound[length] = self._bind(length)
        bound = self._bound[length]
        bound.ids.update_inplace(continued(ids, length))
        bound.last_row.update_inplace(batch.last_row)
        self._session.run_with_iobinding(bound.binding, bound.options)
        return np.array(bound.answer.numpy())

    def _bind(self, length: int) -> _Bound:
        value = self._onnxruntime.OrtValue
        inputs = self._inputs_of(batch_of(np.zeros(length, np.int64)))
        held = {
            name: value.ortvalue_from_numpy(array, self._device)
            for name, array in inputs.items()
            if name not in IN_CPU_MEMORY
        }
        output = self._session.get_outputs()[0]
        answer = value.ortvalue_from_shape_and_type([1, *output.shape[1:]], np.float32, self._device)
        binding = self._session.io_binding()
        for name, array in inputs.items():
            if name in held:
                binding.bind_ortvalue_input(name, held[name])
            else:
                binding.bind_cpu_input(name, array)
        binding.bind_ortvalue_output(output.name, answer)
        # From 1 on: 0 is what runs that name none have.
        options = run_options(self._onnxruntime, str(1 + LENGTHS.index(length)))
        return _Bound(options, binding, held["input_ids"], held["last_row"], answer)


def continued(ids: Ids, length: int) -> Ids:
    """Ids with their last one repeated behind them."""
    return np.concatenate([ids, np.full(length - len(ids), ids[-1])])
