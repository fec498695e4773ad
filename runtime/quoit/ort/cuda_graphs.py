"""Run single short rows on CUDA as CUDA graphs: capture a run of the model once, then replay it.

The kernels of one short row take less time than their launches one by one. onnxruntime captures all of them in one
CUDA graph, whose shapes and addresses may not change after that (https://onnxruntime.ai/docs/execution-providers/
CUDA-ExecutionProvider.html, "CUDA Graphs"). So a row is padded to the next of a few lengths by the layout
(`InputContract.fixed_shape`). Padding changes no state of the row's own tokens, since the model is causal. Arrays that
change from row to row are copied into buffers with fixed addresses.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit.ort.graph_inputs import InputContract, Inputs
from quoit.ort.module import onnxruntime
from quoit.ort.sessions import to_value

LENGTHS = (16, 32, 64, 128, 256)
"""Lengths in tokens that are captured. There are few, since each needs a captured run of its own. A GPU reads all
weights for 16 tokens as it does for 128."""
CAPTURE_OPTIONS = {"enable_cuda_graph": "1"}
GRAPH_ID = "gpu_graph_id"
NOT_CAPTURED = "-1"

Shapes = tuple[tuple[int, ...], ...]


def run_options(graph_id: str = NOT_CAPTURED) -> Any:
    """Return the options of a run: captured under a number and then replayed, or not captured."""
    options = onnxruntime().RunOptions()
    options.add_run_config_entry(GRAPH_ID, graph_id)
    return options


@dataclass(frozen=True)
class _Bound:
    """The buffers of one set of shapes, bound to the session once, so that their addresses do not change.

    Attributes:
        options: options of the run, with its number.
        binding: binding of all inputs and of the answer.
        values: buffers of the inputs in device memory, by name.
        last: arrays that the inputs hold now, by name; inputs in the CPU's memory are read from these arrays.
        answer: buffer of the output.
    """

    options: Any
    binding: Any
    values: dict[str, Any]
    last: dict[str, NDArray[Any]]
    answer: Any


class CudaGraphs:
    """Captured runs of a session, one for each of LENGTHS that occurred."""

    def __init__(self, session: Any, device: str, contract: InputContract) -> None:
        """Prepare for captures; nothing is captured yet.

        Args:
            session: the model, loaded with CAPTURE_OPTIONS.
            device: device of the buffers, `cuda` or `cpu`.
            contract: the inputs of a run, and the function that gives a row a fixed shape.
        """
        self._session = session
        self._device = device
        self._contract = contract
        self._bound: dict[Shapes, _Bound] = {}

    @property
    def captured(self) -> int:
        """Return the number of captured runs."""
        return len(self._bound)

    def run(self, inputs: Inputs) -> NDArray[np.float32] | None:
        """Return the answer to a single short row, [1, *answer_shape]; None for other inputs.

        Only one call may run at a time.
        """
        fixed = None if self._contract.fixed_shape is None else self._contract.fixed_shape(inputs, LENGTHS)
        if fixed is None:
            return None
        shapes = tuple(array.shape for array in fixed.values())
        if shapes not in self._bound:
            self._bound[shapes] = self._bind(fixed)
        bound = self._bound[shapes]
        for name, value in bound.values.items():
            if not np.array_equal(bound.last[name], fixed[name]):
                value.update_inplace(fixed[name])
                bound.last[name] = fixed[name]
        self._session.run_with_iobinding(bound.binding, bound.options)
        return np.array(bound.answer.numpy())

    def _bind(self, inputs: Inputs) -> _Bound:
        in_cpu_memory = self._contract.in_cpu_memory()
        # Arrays are copied, since values in the CPU's memory would share the caller's own arrays.
        values = {
            name: to_value(array.copy(), self._device) for name, array in inputs.items() if name not in in_cpu_memory
        }
        output = self._session.get_outputs()[0]
        answer = onnxruntime().OrtValue.ortvalue_from_shape_and_type([1, *output.shape[1:]], np.float32, self._device)
        binding = self._session.io_binding()
        for name, array in inputs.items():
            if name in values:
                binding.bind_ortvalue_input(name, values[name])
            else:
                binding.bind_cpu_input(name, array)
        binding.bind_ortvalue_output(output.name, answer)
        # Numbers start at 1: 0 is the number of runs that name no number.
        options = run_options(str(1 + len(self._bound)))
        return _Bound(options, binding, values, dict(inputs), answer)
