"""Store weights in int8 with one scale for each output column, and multiply them by uint8 activations.

Activations are scaled row by row (token by token), or by one step that was fixed at export. So a text's vector cannot
depend on the other texts of its batch. U8 x S8 is the only int8 pairing that is fast on x86. The token table is
float16, or int8 with one scale for each row. Values between the linear layers are float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit_export.precisions.chunks import row_chunks
from quoit_export.precisions.encoding import MICROSOFT, Author, Quantize, Quantized, Rows
from quoit_export.precisions.floats import FloatEncoding

INT8_MAX = 127
NARROW_MAX = 63
INTEGER_PRODUCT = "MatMulIntegerToFloat"
SMALLEST_ROW_MAXIMUM = 1e-20
"""Minimum of a row's largest magnitude, so that a row of zeros is not divided by zero."""


@dataclass(frozen=True)
class Int8Encoding:
    """Encoding with uint8 activations, and int8 weights with one scale for each output column.

    Attributes:
        dtype: the type of the values between linear layers.
        float32_layers: names of linear layers that stay in float32; linear layers that read one input stay together.
        steps: the size of one unit of an input's uint8 values, for inputs with a fixed step. The keys are the names of
            the inputs, as in `graph.architecture`.
        int8_table: True to store the token table in int8 with one scale for each row, instead of float16.
        narrow: True for activations of 7 bits. Fixed steps are not used then, since values could exceed 7 bits.
    """

    dtype: ir.DataType = ir.DataType.FLOAT
    float32_layers: frozenset[str] = frozenset()
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
        """Return the values as uint8 around 128, in the input's fixed step or in 127ths of a row's largest magnitude.

        Narrow values are around 64, in 63rds of a row's largest magnitude. Values for float32 layers are unchanged.
        """
        if self.float32_layers.issuperset(names):
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
        """Return one zero point per row, made once for all layers."""
        name = f"zero_points_{tokens.name}"
        if name not in author.constants:
            zero_point = author.constant("row_zero_point", np.array([self._middle], np.uint8))
            author.constants[name] = author.op("Expand", zero_point, author.op("Shape", tokens))
        return author.constants[name]

    @staticmethod
    def _store(
        author: Author, stored: str, shape: tuple[int, int], outputs: int, quantize: Quantize
    ) -> tuple[ir.Value, ir.Value]:
        """Return a weight's integers, of the given shape, and their scales, one for each output."""
        once = Quantized(lambda: author.read(stored), quantize)
        weight = author.weight(f"{stored}_int8", ir.DataType.INT8, shape, once.integers)
        return weight, author.weight(f"{stored}_scale", ir.DataType.FLOAT, (outputs,), once.scale)

    def columns(self, author: Author, name: str, shape: tuple[int, int]) -> tuple[ir.Value, ir.Value]:
        """Return a linear layer's weight, [in, out] int8, and its scales, [out]; `shape` is [out, in]."""
        return self._store(author, f"{name}.weight", shape[::-1], shape[0], quantize_columns)

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `Encoding`."""
        if name in self.float32_layers:
            return FloatEncoding(self.dtype).linear(author, x, name, shape)
        weight, scale = self.columns(author, name, shape)
        step = x.step or author.constant("one", np.array(1, np.float32))
        product = author.op(INTEGER_PRODUCT, x.values, weight, step, scale, self._zero_point(author), domain=MICROSOFT)
        return Rows(product, x.scale)


def quantize_outputs(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a weight [out, in] in symmetric int8, one scale per output: ([out, in] int8, [out] float32)."""
    integers, scale = np.empty(weight.shape, np.int8), np.empty(len(weight), np.float32)
    for some in row_chunks(*weight.shape):
        values = weight[some].astype(np.float32)
        largest = np.maximum(np.abs(values).max(axis=1), np.float32(SMALLEST_ROW_MAXIMUM))
        scale[some] = largest / INT8_MAX
        integers[some] = np.rint(values / scale[some, None])
    return integers, scale


def quantize_columns(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the result of `quantize_outputs`, transposed for the graph's product: ([in, out] int8, [out] float32)."""
    integers, scale = quantize_outputs(weight)
    return np.ascontiguousarray(integers.T), scale
