"""How each precision stores a linear layer and the token table, and the nodes that compute with them.

| precision | linear layers                                              | token table            | between them |
|-----------|------------------------------------------------------------|------------------------|--------------|
| fp32      | MatMul, float32                                            | float32                | float32      |
| fp16      | MatMul, float16                                            | float16                | float16      |
| bf16      | MatMul, bfloat16                                           | bfloat16               | bfloat16     |
| int8      | uint8 activations x int8 weights per output column         | int8 per row, float16  | float32      |
| int4      | MatMulNBits, 4 bits in blocks of 32, or as in int8         | int8 per row, float16  | float32      |

Int8 activations are scaled row by row (token by token), or by one step that was fixed at export, so that a text's
vector cannot depend on its batch mates. U8 x S8 is the one int8 pairing that is fast on x86. MatMulNBits rounds
activations by itself, block by block; it spares memory, not time. CUDA multiplies int4's tensors otherwise, see
`weight_only`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from quoit.artifact import Precision
from quoit_export.errors import ExportError
from quoit_export.precisions.blocks import BITS, BLOCK, block_count, pack_blocks
from quoit_export.precisions.chunks import row_chunks

MICROSOFT = "com.microsoft"
INT8_ARITHMETIC = 4
"""MatMulNBits' `accuracy_level` that rounds activations to int8, in the blocks of the weights."""
ReadTensor = Callable[[str], NDArray[Any]]
Quantize = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[np.float32]]]

INT8_MAX = 127
NARROW_MAX = 63
INTEGER_PRODUCT = "MatMulIntegerToFloat"
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


@dataclass(frozen=True)
class FloatEncoding:
    """Every tensor in one floating-point type."""

    dtype: ir.DataType

    @property
    def stored_dtype(self) -> ir.DataType:
        """See `Encoding`."""
        return self.dtype

    def narrowed(self) -> "FloatEncoding":
        """See `Encoding`: there are no integer products."""
        return self

    def embed(self, author: Author, ids: ir.Value, name: str, shape: tuple[int, int]) -> ir.Value:
        """See `Encoding`."""
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


@dataclass(frozen=True)
class Int8Encoding:
    """Uint8 activations, int8 weights per output column.

    Attributes:
        dtype: of the values between linear layers.
        floats: linear layers that stay in float32; those that read one input do so together.
        steps: what one unit of an input's uint8 values stands for, for inputs that need no look at their rows; named
            as in `folding`.
        int8_table: the token table in int8, each row with its scale, instead of float16.
        narrow: activations have 7 bits, and no fixed steps, which could leave them.
    """

    dtype: ir.DataType = ir.DataType.FLOAT
    floats: frozenset[str] = frozenset()
    steps: Mapping[str, float] = field(default_factory=dict)
    int8_table: bool = False
    narrow: bool = False

    @property
    def stored_dtype(self) -> ir.DataType:
        """See `Encoding`."""
        return self.dtype

    def narrowed(self) -> "Int8Encoding":
        """See `Encoding`."""
        return replace(self, narrow=True)

    def embed(self, author: Author, ids: ir.Value, name: str, shape: tuple[int, int]) -> ir.Value:
        """See `Encoding`."""
        if not self.int8_table:
            half = FloatEncoding(ir.DataType.FLOAT16).embed(author, ids, name, shape)
            return author.op("Cast", half, to=ir.DataType.FLOAT)
        table, scale = self._store(author, name, shape, shape[0], quantize_outputs)
        return author.op("DequantizeLinear", author.op("Gather", table, ids), author.op("Gather", scale, ids), axis=0)

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:
        """The values as uint8 around 128, in the input's fixed step or in 127ths of each row's largest magnitude.

        Or around 64 and in 63rds, where they are narrow.
        """
        if self.floats.issuperset(names):
            return x
        if names[0] in self.steps and not self.narrow:
            step = author.constant(f"{names[0]}.step", np.array(self.steps[names[0]], np.float32))
            return Rows(author.op("QuantizeLinear", x.values, step, self._zero_point(author)), x.scale, step)
        axis = author.constant("last_axis", np.array([-1], np.int64))
        highest = author.op("ReduceMax", x.values, axis, keepdims=0)
        lowest = author.op("ReduceMin", x.values, axis, keepdims=0)
        floor = author.constant("row_floor", np.array(SMALLEST_ROW_MAXIMUM, np.float32))
        largest = author.op("Max", highest, author.op("Neg", lowest), floor)
        inverse = np.array(1 / (NARROW_MAX if self.narrow else INT8_MAX), np.float32)
        scale = author.op("Mul", largest, author.constant("inverse_activation_max", inverse))
        quantized = author.op("QuantizeLinear", x.values, scale, self._zero_points(author, tokens), axis=0)
        column = author.op("Unsqueeze", scale, axis)
        return Rows(quantized, column if x.scale is None else author.op("Mul", column, x.scale))

    @property
    def _middle(self) -> int:
        return (NARROW_MAX if self.narrow else INT8_MAX) + 1

    def _zero_point(self, author: Author) -> ir.Value:
        return author.constant("activation_zero_point", np.array(self._middle, np.uint8))

    def _zero_points(self, author: Author, tokens: ir.Value) -> ir.Value:
        """One zero point per row, made once for all layers."""
        name = f"zero_points_{tokens.name}"
        if name not in author.constants:
            zero_point = author.constant("row_zero_point", np.array([self._middle], np.uint8))
            author.constants[name] = author.op("Expand", zero_point, author.op("Shape", tokens))
        return author.constants[name]

    @staticmethod
    def _store(
        author: Author, stored: str, shape: tuple[int, int], outputs: int, quantize: Quantize
    ) -> tuple[ir.Value, ir.Value]:
        """A weight's whole numbers, of a shape, and their scales, one for each output."""
        once = Quantized(lambda: author.read(stored), quantize)
        weight = author.weight(f"{stored}_int8", ir.DataType.INT8, shape, once.integers)
        return weight, author.weight(f"{stored}_scale", ir.DataType.FLOAT, (outputs,), once.scale)

    def columns(self, author: Author, name: str, shape: tuple[int, int]) -> tuple[ir.Value, ir.Value]:
        """A linear layer's weight, [in, out] int8, and its scales, [out]; the layer is [out, in]."""
        return self._store(author, f"{name}.weight", shape[::-1], shape[0], quantize_columns)

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `Encoding`."""
        if name in self.floats:
            return FloatEncoding(self.dtype).linear(author, x, name, shape)
        weight, scale = self.columns(author, name, shape)
        step = x.step or author.constant("one", np.array(1, np.float32))
        product = author.op(INTEGER_PRODUCT, x.values, weight, step, scale, self._zero_point(author), domain=MICROSOFT)
        return Rows(product, x.scale)


@dataclass(frozen=True)
class Int4Encoding:
    """Four-bit weights in blocks, but for linear layers that are stored as in int8 or float32.

    Attributes:
        others: what stores those, and the token table.
        eights: which are in int8; those that read one input are so together, and as in `others.floats`.
    """

    others: Int8Encoding = field(default_factory=Int8Encoding)
    eights: frozenset[str] = frozenset()

    def narrowed(self) -> "Int4Encoding":
        """See `Encoding`."""
        return replace(self, others=self.others.narrowed())

    @property
    def dtype(self) -> ir.DataType:
        """See `Encoding`."""
        return self.others.dtype

    @property
    def stored_dtype(self) -> ir.DataType:
        """See `Encoding`."""
        return self.others.stored_dtype

    def embed(self, author: Author, ids: ir.Value, name: str, shape: tuple[int, int]) -> ir.Value:
        """See `Encoding`."""
        return self.others.embed(author, ids, name, shape)

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:
        """See `Encoding`."""
        return self.others.prepare(author, x, tokens, names) if self.eights.issuperset(names) else x

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `Encoding`."""
        if name in self.eights | self.others.floats:
            return self.others.linear(author, x, name, shape)
        weight, scale = self.blocks(author, name, shape)
        return Rows(self.product(author, x.values, weight, scale, shape, accuracy_level=INT8_ARITHMETIC), x.scale)

    def blocks(self, author: Author, name: str, shape: tuple[int, int]) -> tuple[ir.Value, ir.Value]:
        """A linear layer's weight of four bits, as MatMulNBits packs it, and its scales, [out, blocks]."""
        outputs, inputs = shape
        blocks = block_count(inputs)
        once = Quantized(lambda: author.read(f"{name}.weight"), pack_blocks)
        weight = author.weight(
            f"{name}.weight_int4", ir.DataType.UINT8, (outputs, blocks, BLOCK * BITS // 8), once.integers
        )
        return weight, author.weight(f"{name}.weight_scale", ir.DataType.FLOAT, (outputs, blocks), once.scale)

    @staticmethod
    def product(
        author: Author, x: ir.Value, weight: ir.Value, scale: ir.Value, shape: tuple[int, int], **attributes: int
    ) -> ir.Value:
        """Values [T, in] times what `blocks` gives, [T, out]."""
        numbers = {"N": shape[0], "K": shape[1], "bits": BITS, "block_size": BLOCK, **attributes}
        return author.op("MatMulNBits", x, weight, scale, domain=MICROSOFT, **numbers)


def cast(values: NDArray[Any], dtype: ir.DataType, name: str) -> NDArray[Any]:
    """Values in another floating-point type.

    Raises:
        ExportError: one of them is beyond the type's range.
    """
    with np.errstate(over="ignore"):
        converted: NDArray[Any] = values.astype(np.float32, copy=False).astype(dtype.numpy(), copy=False)
    flat = converted.reshape(-1)
    if not all(np.isfinite(flat[some]).all() for some in row_chunks(flat.size, 1)):
        largest, kind = np.abs(values.astype(np.float32)).max(), dtype.name.lower()
        users = "bf16 uses" if dtype == ir.DataType.BFLOAT16 else "fp16 uses for all tensors and int8"
        raise ExportError(
            f"{name} has values up to {largest:g}, beyond {kind}, which {users} for the token table; leave that "
            "precision out of --precision"
        )
    return converted


def quantize_outputs(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 of a weight [out, in], one scale per output: ([out, in] int8, [out] float32)."""
    integers, scale = np.empty(weight.shape, np.int8), np.empty(len(weight), np.float32)
    for some in row_chunks(*weight.shape):
        values = weight[some].astype(np.float32)
        largest = np.maximum(np.abs(values).max(axis=1), np.float32(SMALLEST_ROW_MAXIMUM))
        scale[some] = largest / INT8_MAX
        integers[some] = np.rint(values / scale[some, None])
    return integers, scale


def quantize_columns(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The same as a graph multiplies by it: ([in, out] int8, [out] float32)."""
    integers, scale = quantize_outputs(weight)
    return np.ascontiguousarray(integers.T), scale


ENCODINGS: dict[Precision, Encoding] = {
    "fp32": FloatEncoding(ir.DataType.FLOAT),
    "fp16": FloatEncoding(ir.DataType.FLOAT16),
    "bf16": FloatEncoding(ir.DataType.BFLOAT16),
    "int8": Int8Encoding(),
    "int4": Int4Encoding(),
}
