"""A graph in the making, and the interface of an encoding: how one precision stores and computes its tensors.

An encoding stores the linear layers and the token table, and adds the nodes that compute with them. Each precision has
one in a module of its own (`floats`, `int8`, `int4`); `table` lists the precisions. This module does not know what a
linear layer is for.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.tape import Tape

MICROSOFT = "com.microsoft"
ReadTensor = Callable[[str], NDArray[Any]]
Quantize = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[np.float32]]]


@dataclass
class Author:
    """A graph in the making: its nodes, and its tensors as promises kept when the file is written."""

    read: ReadTensor
    tape: Tape = field(default_factory=Tape)
    constants: dict[str, ir.Value] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)

    def branch(self) -> "Author":
        """An author for a subgraph, whose names stay distinct from those outside."""
        return Author(self.read, names=self.names)

    def op(self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Adds a node with one output."""
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, count: int, *inputs: ir.Value | None, domain: str = "", **attributes: Any
    ) -> list[ir.Value]:
        """Adds a node with several outputs."""
        self.names[kind] += 1
        name = f"{kind}_{self.names[kind]}"
        outputs = [ir.Value(name=f"{name}.{output}") for output in range(count)]
        self.tape.op_multi_out(kind, list(inputs), attributes, outputs=outputs, domain=domain, name=name)
        return outputs

    def as_type(self, value: ir.Value, dtype: ir.DataType, wanted: ir.DataType) -> ir.Value:
        """A value of a type in another one."""
        return value if dtype == wanted else self.op("Cast", value, to=wanted)

    def constant(self, name: str, value: NDArray[Any]) -> ir.Value:
        """A small tensor, stored once per name."""
        if name not in self.constants:
            self.constants[name] = self.tape.initializer(ir.tensor(value, name=name))
        return self.constants[name]

    def weight(
        self, name: str, dtype: ir.DataType, shape: tuple[int, ...], make: Callable[[], NDArray[Any]]
    ) -> ir.Value:
        """A tensor computed only when the file is written, and not kept after that."""
        lazy = ir.LazyTensor(lambda: ir.Tensor(make()), dtype=dtype, shape=ir.Shape(shape), name=name)
        return self.tape.initializer(lazy)


@dataclass(frozen=True)
class Rows:
    """Values [T, n] that still have to be multiplied row by row by `scale` [T, 1], where there is one.

    What follows may be indifferent to a row's scale, or may carry it along: then the multiplication of every
    value never happens. `step` [] is what one unit of values stands for that were rounded alike in all rows; a linear
    layer multiplies by it as it goes.
    """

    values: ir.Value
    scale: ir.Value | None = None
    step: ir.Value | None = None


class Encoding(Protocol):
    """What differs between precisions. `prepare` is shared by the linear layers that read one input."""

    @property
    def dtype(self) -> ir.DataType:
        """The type of the values between linear layers."""

    @property
    def stored_dtype(self) -> ir.DataType:
        """The type in which norms' weights and the tables of positions are stored."""

    def narrowed(self) -> "Encoding":
        """The same tensors for CPUs whose sums of integer products saturate; see `Int8Encoding.narrow`."""

    def embed(self, author: Author, ids: ir.Value, name: str, shape: tuple[int, int]) -> ir.Value:
        """Rows of the token table, by its name: [T] int64 -> [T, hidden]."""

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:
        """What the linear layers `names` read, made from their input [T, in]; `tokens` is any input of shape [T]."""

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """A linear layer without bias whose weight is stored as [out, in]: -> [T, out]."""


@dataclass
class Quantized:
    """A weight that is read and quantized once for both its tensors; the scales, which are small, are kept."""

    read: Callable[[], NDArray[Any]]
    quantize: Quantize
    scales: NDArray[np.float32] | None = None

    def integers(self) -> NDArray[Any]:
        """The whole numbers, as `quantize` lays them out."""
        integers, self.scales = self.quantize(self.read())
        return integers

    def scale(self) -> NDArray[np.float32]:
        """What they have to be multiplied by."""
        return self.quantize(self.read())[1] if self.scales is None else self.scales
