"""How each precision stores a linear layer and the token table, and the nodes that compute with them.

| precision | linear layers                                              | token table            | between them |
|-----------|------------------------------------------------------------|------------------------|--------------|
| fp32      | MatMul, float32                                            | float32                | float32      |
| fp16      | MatMul, float16                                            | float16                | float16      |
| bf16      | MatMul, bfloat16                                           | bfloat16               | bfloat16     |
| int8      | uint8 activations per row x int8 weights per output column | float16                | float32      |

Int8 activations are scaled row by row (token by token), so that a text's vector cannot depend on its batch
mates. U8 x S8 is the one int8 pairing that is fast on x86.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from quoit.artifact import Precision
from quoit_export.errors import ExportError

MICROSOFT = "com.microsoft"
ReadTensor = Callable[[str], NDArray[Any]]

INT8_MAX = 127
ACTIVATION_ZERO_POINT = 128
SMALLEST_ROW_MAXIMUM = 1e-20
"""A row of zeros is divided by this instead of by zero."""


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
    value never happens.
    """

    values: ir.Value
    scale: ir.Value | None = None


class Encoding(Protocol):
    """What differs between precisions. `prepare` is shared by the linear layers that read one input."""

    @property
    def dtype(self) -> ir.DataType:
        """The type of the values between linear layers."""

    def embed(self, author: Author, ids: ir.Value, shape: tuple[int, int]) -> ir.Value:
        """Rows of the token table: [T] int64 -> [T, hidden]."""

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:
        """What the linear layers `names` read, made from their input [T, in]; `tokens` is any input of shape [T]."""

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """A linear layer without bias whose weight is stored as [out, in]: -> [T, out]."""


@dataclass(frozen=True)
class FloatEncoding:
    """Every tensor in one floating-point type."""

    dtype: ir.DataType

    def embed(self, author: Author, ids: ir.Value, shape: tuple[int, int]) -> ir.Value:
        """See `Encoding`."""
        name = "embed_tokens.weight"
        table = author.weight(name, self.dtype, shape, lambda: self._cast(author, name))
        return author.op("Gather", table, ids)

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:  # noqa: ARG002
        """See `Encoding`."""
        return x

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `Encoding`."""
        stored = f"{name}.weight"
        weight = author.weight(
            stored, self.dtype, shape[::-1], lambda: np.ascontiguousarray(self._cast(author, stored).T)
        )
        return Rows(author.op("MatMul", x.values, weight), x.scale)

    def _cast(self, author: Author, name: str) -> NDArray[Any]:
        return cast(author.read(name), self.dtype, name)


@dataclass(frozen=True)
class Int8Encoding:
    """Uint8 activations per row, int8 weights per output column, float16 token table.

    `floats` are linear layers that stay in float32; those that read one input do so together.
    """

    dtype: ir.DataType = ir.DataType.FLOAT
    floats: frozenset[str] = frozenset()

    def embed(self, author: Author, ids: ir.Value, shape: tuple[int, int]) -> ir.Value:
        """See `Encoding`."""
        half = FloatEncoding(ir.DataType.FLOAT16).embed(author, ids, shape)
        return author.op("Cast", half, to=ir.DataType.FLOAT)

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:
        """The values as uint8 around zero point 128; a row's scale is its largest magnitude / 127."""
        if self.floats.issuperset(names):
            return x
        axis = author.constant("last_axis", np.array([-1], np.int64))
        highest = author.op("ReduceMax", x.values, axis, keepdims=0)
        lowest = author.op("ReduceMin", x.values, axis, keepdims=0)
        floor = author.constant("row_floor", np.array(SMALLEST_ROW_MAXIMUM, np.float32))
        largest = author.op("Max", highest, author.op("Neg", lowest), floor)
        scale = author.op("Mul", largest, author.constant("inverse_int8_max", np.array(1 / INT8_MAX, np.float32)))
        quantized = author.op("QuantizeLinear", x.values, scale, self._zero_points(author, tokens), axis=0)
        column = author.op("Unsqueeze", scale, axis)
        return Rows(quantized, column if x.scale is None else author.op("Mul", column, x.scale))

    @staticmethod
    def _zero_points(author: Author, tokens: ir.Value) -> ir.Value:
        """One zero point per row, made once for all layers."""
        name = f"zero_points_{tokens.name}"
        if name not in author.constants:
            zero_point = author.constant("row_zero_point", np.array([ACTIVATION_ZERO_POINT], np.uint8))
            author.constants[name] = author.op("Expand", zero_point, author.op("Shape", tokens))
        return author.constants[name]

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `Encoding`."""
        if name in self.floats:
            return FloatEncoding(self.dtype).linear(author, x, name, shape)
        stored = f"{name}.weight"
        weight = author.weight(
            f"{stored}_int8", ir.DataType.INT8, shape[::-1], lambda: quantize_columns(author.read(stored))[0]
        )
        scale = author.weight(
            f"{stored}_scale", ir.DataType.FLOAT, shape[:1], lambda: quantize_columns(author.read(stored))[1]
        )
        one = author.constant("one", np.array(1, np.float32))
        zero_point = author.constant("activation_zero_point", np.array(ACTIVATION_ZERO_POINT, np.uint8))
        product = author.op("MatMulIntegerToFloat", x.values, weight, one, scale, zero_point, domain=MICROSOFT)
        return Rows(product, x.scale)


def cast(values: NDArray[Any], dtype: ir.DataType, name: str) -> NDArray[Any]:
    """Values in another floating-point type.

    Raises:
        ExportError: one of them is beyond the type's range.
    """
    with np.errstate(over="ignore"):
        converted: NDArray[Any] = values.astype(np.float32, copy=False).astype(dtype.numpy())
    if not np.isfinite(converted).all():
        largest, kind = np.abs(values.astype(np.float32)).max(), dtype.name.lower()
        users = "bf16 uses" if dtype == ir.DataType.BFLOAT16 else "fp16 uses for all tensors and int8"
        raise ExportError(
            f"{name} has values up to {largest:g}, beyond {kind}, which {users} for the token table; leave that "
            "precision out of --precision"
        )
    return converted


def quantize_columns(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 of a weight [out, in], one scale per output: ([in, out] int8, [out] float32)."""
    values = weight.astype(np.float32)
    largest = np.maximum(np.abs(values).max(axis=1), np.float32(SMALLEST_ROW_MAXIMUM))
    scale = (largest / INT8_MAX).astype(np.float32)
    rounded = np.rint(values / scale[:, None]).astype(np.int8)
    return np.ascontiguousarray(rounded.T), scale


ENCODINGS: dict[Precision, Encoding] = {
    "fp32": FloatEncoding(ir.DataType.FLOAT),
    "fp16": FloatEncoding(ir.DataType.FLOAT16),
    "bf16": FloatEncoding(ir.DataType.BFLOAT16),
    "int8": Int8Encoding(),
}
