"""Declare a graph's inputs: their names, types, shapes and memory.

A layout declares its inputs once (`quoit.engine.layouts`). Export authors graphs with these inputs, and a session
refuses a graph with other inputs. Captured CUDA runs copy the inputs in device memory into buffers of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]
"""Arrays of one run, by the graph's input names."""
Dtype = Literal["int64", "int32", "float32", "bool"]
ONNX_TYPES: dict[Dtype, str] = {
    "int64": "tensor(int64)",
    "int32": "tensor(int32)",
    "float32": "tensor(float)",
    "bool": "tensor(bool)",
}
"""Names that onnxruntime gives to the types."""


@dataclass(frozen=True)
class GraphInput:
    """One input of a graph.

    Attributes:
        name: name of the input; with `{layer}`, the graph has one such input for each layer, with the layer's number.
        dtype: numpy's name of the type.
        shape: names of the axes, or their fixed sizes.
        memory: memory where onnxruntime needs the input; `cpu` for an input that decides a shape or a branch.
    """

    name: str
    dtype: Dtype
    shape: tuple[str | int, ...]
    memory: Literal["device", "cpu"] = "device"


@dataclass(frozen=True)
class InputContract:
    """All inputs of a graph.

    Attributes:
        required: inputs that every run gives, in the graph's order.
        prefix: inputs for a cached prefix; () by default, for a graph that takes none.
        fixed_shape: function that pads a single short row to the first of some lengths that holds it, so that few
            shapes occur; it returns None for other inputs. CUDA graphs need it.
        no_lone_row: function that repeats a token or a row that no other one of its batch accompanies; its answer comes
            twice. Four-bit products need it.
    """

    required: tuple[GraphInput, ...]
    prefix: tuple[GraphInput, ...] = ()
    fixed_shape: Callable[[Inputs, Sequence[int]], Inputs | None] | None = None
    no_lone_row: Callable[[Inputs], Inputs] | None = None

    def in_cpu_memory(self) -> frozenset[str]:
        """Return the names of inputs that stay in the CPU's memory."""
        return frozenset(one.name for one in self.required if one.memory == "cpu")
