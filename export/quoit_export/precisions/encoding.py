"""Collect the nodes and tensors of a graph, and define the interface by which a precision stores its tensors.

An encoding stores the linear layers and the token table, and adds the nodes that compute with them. Each precision has
one in a module of its own (`floats`, `int8`, `int4`); `table` lists the precisions. This module does not know what a
linear layer is for.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.tape import Tape

MICROSOFT = "com.microsoft"
NATIVE = "quoit"
"""Domain of the operators of `runtime/kernels`."""
ReadTensor = Callable[[str], NDArray[Any]]
Quantize = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[np.float32]]]


@dataclass
class Author:
    """Collects the nodes and tensors of a graph; tensors are computed only when the file is written.

    Attributes:
        read: function that returns a tensor by its name in the checkpoint.
        tape: the nodes and initializers so far.
        constants: the small tensors, and values that are made once, by name.
        names: the number of nodes so far of each kind, for distinct names.
    """

    read: ReadTensor
    tape: Tape = field(default_factory=Tape)
    constants: dict[str, ir.Value] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)

    def branch(self) -> "Author":
        """Return an author for a subgraph; its names stay distinct from those outside."""
        return Author(self.read, names=self.names)

    def op(self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Add a node with one output, and return the output."""
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, count: int, *inputs: ir.Value | None, domain: str = "", **attributes: Any
    ) -> list[ir.Value]:
        """Add a node with several outputs, and return the outputs."""
        self.names[kind] += 1
        name = f"{kind}_{self.names[kind]}"
        outputs = [ir.Value(name=f"{name}.{output}") for output in range(count)]
        self.tape.op_multi_out(kind, list(inputs), attributes, outputs=outputs, domain=domain, name=name)
        return outputs

    def as_type(self, value: ir.Value, dtype: ir.DataType, wanted: ir.DataType) -> ir.Value:
        """Return a value of type `dtype` as type `wanted`."""
        return value if dtype == wanted else self.op("Cast", value, to=wanted)

    def constant(self, name: str, value: NDArray[Any]) -> ir.Value:
        """Return a small tensor, stored once per name."""
        if name not in self.constants:
            self.constants[name] = self.tape.initializer(ir.tensor(value, name=name))
        return self.constants[name]

    def weight(
        self, name: str, dtype: ir.DataType, shape: tuple[int, ...], make: Callable[[], NDArray[Any]]
    ) -> ir.Value:
        """Return a tensor that is computed only when the file is written, and not kept after that."""
        lazy = ir.LazyTensor(lambda: ir.Tensor(make()), dtype=dtype, shape=ir.Shape(shape), name=name)
        return self.tape.initializer(lazy)


@dataclass(frozen=True)
class SecondPass:
    """What the first rounding of some rows of an input left over, rounded again; see `Int8Encoding`.

    Attributes:
        values: the integers of the remainders, [M, in].
        scale: the size of one unit of `values`, relative to a unit of the first rounding, [].
        rows: the indices of the rows, [M, 1]; None for all rows.
    """

    values: ir.Value
    scale: ir.Value
    rows: ir.Value | None


@dataclass(frozen=True)
class Rows:
    """Values [T, n] whose row scale is not yet applied.

    The next node may ignore a row's scale, or pass it on. Then the multiplication of every value never happens.

    Attributes:
        values: the values, [T, n].
        scale: the factor of each row, [T, 1]; None if the values are final.
        step: the size of one unit of integer values that have the same step in all rows, []; a linear layer multiplies
            by it. None without such a step.
        second: the remainders of the rows that are rounded twice; None if no row is.
    """

    values: ir.Value
    scale: ir.Value | None = None
    step: ir.Value | None = None
    second: SecondPass | None = None


class Encoding(Protocol):
    """Interface of a precision's storage and arithmetic. Linear layers that read one input share one `prepare`."""

    @property
    def dtype(self) -> ir.DataType:
        """Type of the values between linear layers."""

    @property
    def stored_dtype(self) -> ir.DataType:
        """Type in which norms' weights and the RoPE tables are stored."""

    def narrowed(self) -> "Encoding":
        """Return the encoding of the same tensors for CPUs whose integer sums saturate; see `Int8Encoding.narrow`."""

    def embed(self, author: Author, ids: ir.Value, name: str, shape: tuple[int, int]) -> ir.Value:
        """Return the rows [T, hidden] of the token table `name` for the ids [T] int64."""

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:
        """Return the input [T, in] as the linear layers `names` read it; `tokens` is any graph input of shape [T]."""

    def linears(self, author: Author, x: Rows, layers: Mapping[str, tuple[int, int]]) -> list[Rows]:
        """Return the results [T, out] of linear layers without bias, by their names and shapes [out, in]."""

    def gated(self, author: Author, x: Rows, gate: str, up: str, shape: tuple[int, int]) -> Rows | None:
        """Return silu(gate(x)) * up(x) [T, out] of two linear layers, or None if that is no single node."""


class OneByOne(ABC):
    """Linear layers of an encoding that has a node for each of them."""

    @abstractmethod
    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """Return the result [T, out] of a linear layer without bias whose checkpoint weight is [out, in]."""

    def linears(self, author: Author, x: Rows, layers: Mapping[str, tuple[int, int]]) -> list[Rows]:
        """See `Encoding`."""
        return [self.linear(author, x, name, shape) for name, shape in layers.items()]

    def gated(self, author: Author, x: Rows, gate: str, up: str, shape: tuple[int, int]) -> Rows | None:  # noqa: ARG002
        """See `Encoding`: gate and up are nodes of their own."""
        return None


@dataclass
class Quantized:
    """A weight that is read and quantized once for both of its tensors; the small scales are kept.

    Attributes:
        read: function that reads the weight.
        quantize: function that returns the integers and scales of a weight.
        scales: the scales, once they are computed.
    """

    read: Callable[[], NDArray[Any]]
    quantize: Quantize
    scales: NDArray[np.float32] | None = None

    def integers(self) -> NDArray[Any]:
        """Return the integers, as `quantize` lays them out."""
        integers, self.scales = self.quantize(self.read())
        return integers

    def scale(self) -> NDArray[np.float32]:
        """Return the scales by which the integers have to be multiplied."""
        return self.quantize(self.read())[1] if self.scales is None else self.scales
