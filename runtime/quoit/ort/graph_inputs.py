"""What a graph takes: its inputs by name, with their types, shapes and memory.

A layout declares this once (`quoit.engine.layouts`). Export authors graphs with these inputs, a session refuses a graph
with others, and captured CUDA runs keep those in device memory in buffers of their own. This module does not know what
an input means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]
"""The arrays of one run, by the graph's names."""
Dtype = Literal["int64", "int32", "float32", "bool"]
ONNX_TYPES: dict[Dtype, str] = {
    "int64": "tensor(int64)",
    "int32": "tensor(int32)",
    "float32": "tensor(float)",
    "bool": "tensor(bool)",
}
"""Types as onnxruntime names them."""


@dataclass(frozen=True)
class GraphInput:
    """One input of a graph.

    Attributes:
        name: its name; `{layer}` stands for each layer's number, and the input is then there once for each layer.
        dtype: numpy's name of its type.
        shape: the names of its axes, or their fixed sizes.
        memory: where onnxruntime wants it; `cpu` for what is a shape or a choice and no value.
    """

    name: str
    dtype: Dtype
    shape: tuple[str | int, ...]
    memory: Literal["device", "cpu"] = "device"


@dataclass(frozen=True)
class InputContract:
    """All inputs of a graph.

    Attributes:
        required: those that every run gives, in the graph's order.
        prefix: those of a cached prefix, empty by default; () where the graph takes none.
        fixed_shape: the inputs of a single short row, continued to the first of some lengths that holds it, so that
            few shapes occur; None for inputs of anything else. CUDA graphs need it.
    """

    required: tuple[GraphInput, ...]
    prefix: tuple[GraphInput, ...] = ()
    fixed_shape: Callable[[Inputs, Sequence[int]], Inputs | None] | None = None

    def in_cpu_memory(self) -> frozenset[str]:
        """The names of inputs that stay in the CPU's memory."""
        return frozenset(one.name for one in self.required if one.memory == "cpu")
