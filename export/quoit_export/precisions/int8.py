"""Store weights in int8 with one scale for each output column, and multiply them by uint8 activations.

Activations are scaled row by row (token by token), or by one step that was fixed at export. So a text's vector cannot
depend on the other texts of its batch. U8 x S8 is the only int8 pairing that is fast on x86. The token table is
float16, or int8 with one scale for each row. Values between the linear layers are float32.

A few tokens of a trained decoder have massive activations: one value of a row is thousands of times larger than the
others, whose digits are lost when the row is rounded once. Such rows take a second pass. What the first rounding left
over is rounded again, with a step 254 times smaller, multiplied by the same weights and added. That is an activation of
15 bits without a second copy of the weights. Whether a row takes a second pass depends on its own values alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit_export.precisions.chunks import row_chunks
from quoit_export.precisions.encoding import MICROSOFT, Author, OneByOne, Quantize, Quantized, Rows, SecondPass
from quoit_export.precisions.floats import FloatEncoding

INT8_MAX = 127
NARROW_MAX = 63
INTEGER_PRODUCT = "MatMulIntegerToFloat"
SMALLEST_ROW_MAXIMUM = 1e-20
"""Minimum of a row's largest magnitude, so that a row of zeros is not divided by zero."""
ALL_ROWS = 0.0
"""Threshold of an input whose rows all take a second pass."""

THRESHOLD = ".threshold"
"""Suffix of the names of the thresholds' tensors; the name of the input comes before it."""

RoundWeight = Callable[[str, NDArray[Any]], tuple[NDArray[np.int8], NDArray[np.float32]]]
"""Function that rounds a named linear layer's weight [out, in], as `quantize_outputs` does."""


class _Rounded(NamedTuple):
    """Values [M, in], their integers, and the integers' scales and zero points, [M]."""

    values: ir.Value
    integers: ir.Value
    scale: ir.Value
    zero_points: ir.Value


@dataclass(frozen=True)
class Int8Encoding(OneByOne):
    """Encoding with uint8 activations, and int8 weights with one scale for each output column.

    Attributes:
        dtype: the type of the values between linear layers.
        float32_layers: names of linear layers that stay in float32; linear layers that read one input stay together.
        steps: the size of one unit of an input's uint8 values, for inputs with a fixed step. The keys are the names of
            the inputs, as in `graph.architecture`.
        int8_table: True to store the token table in int8 with one scale for each row, instead of float16.
        second_pass: the threshold of each input that has rows with a second pass, by the name of the input. A row takes
            it if the ratio of its largest magnitude to its length (L2 norm) is greater; all rows do if the threshold is
            ALL_ROWS.
        narrow_second_pass: the same for activations of 7 bits.
        round_weight: function that rounds the weights; by default, every value to the nearest.
        narrow: True for activations of 7 bits. Fixed steps are not used then, since values could exceed 7 bits.
    """

    dtype: ir.DataType = ir.DataType.FLOAT
    float32_layers: frozenset[str] = frozenset()
    steps: Mapping[str, float] = field(default_factory=dict)
    int8_table: bool = False
    second_pass: Mapping[str, float] = field(default_factory=dict)
    narrow_second_pass: Mapping[str, float] = field(default_factory=dict)
    round_weight: RoundWeight | None = field(default=None, compare=False)
    narrow: bool = False

    @property
    def stored_dtype(self) -> ir.DataType:
        """See `Encoding`."""
        return self.dtype

    def narrowed(self) -> "Int8Encoding":
        """See `Encoding`."""
        return replace(self, narrow=True, second_pass=self.narrow_second_pass)

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
        threshold = self.second_pass.get(names[0])
        if threshold is None and names[0] in self.steps and not self.narrow:
            step = author.constant(f"{names[0]}.step", np.array(self.steps[names[0]], np.float32))
            return Rows(author.op("QuantizeLinear", x.values, step, self._zero_point(author)), x.scale, step)
        axis = author.constant("last_axis", np.array([-1], np.int64))
        highest = author.op("ReduceMax", x.values, axis, keepdims=0)
        lowest = author.op("ReduceMin", x.values, axis, keepdims=0)
        floor = author.constant("row_floor", np.array(SMALLEST_ROW_MAXIMUM, np.float32))
        largest = author.op("Max", highest, author.op("Neg", lowest), floor)
        inverse = np.array(1 / self._highest, np.float32)
        scale = author.op("Mul", largest, author.constant("inverse_activation_max", inverse))
        zero_points = self._zero_points(author, tokens)
        quantized = author.op("QuantizeLinear", x.values, scale, zero_points, axis=0)
        column = author.op("Unsqueeze", scale, axis)
        rows = Rows(quantized, column if x.scale is None else author.op("Mul", column, x.scale))
        if threshold is None:
            return rows
        whole = _Rounded(x.values, quantized, scale, zero_points)
        if threshold == ALL_ROWS:
            return replace(rows, second=SecondPass(self._again(author, whole), self._finer(author), None))
        places = author.op("Transpose", author.op("NonZero", self._is_uneven(author, x, largest, names[0], threshold)))
        some = _Rounded(*(author.op("GatherND", values, places) for values in whole))
        return replace(rows, second=SecondPass(self._again(author, some), self._finer(author), places))

    @staticmethod
    def _is_uneven(author: Author, x: Rows, largest: ir.Value, name: str, threshold: float) -> ir.Value:
        """Return for each row whether its largest magnitude, relative to its length, is above a threshold."""
        limit = np.array(threshold, np.float32)
        length = author.op("ReduceL2", x.values, author.constant("last_axis", np.array([-1], np.int64)), keepdims=0)
        return author.op("Greater", largest, author.op("Mul", length, author.constant(f"{name}{THRESHOLD}", limit)))

    def _again(self, author: Author, rows: "_Rounded") -> ir.Value:
        """Return what the first rounding left of some rows, rounded in units that are 2 * `_highest` times smaller.

        No remainder is greater than half a unit of the first rounding, so all of them are within range.
        """
        remainder = author.op("Sub", rows.values, author.op("DequantizeLinear", *rows[1:], axis=0))
        finer = author.op("Mul", rows.scale, self._finer(author))
        return author.op("QuantizeLinear", remainder, finer, rows.zero_points, axis=0)

    def _finer(self, author: Author) -> ir.Value:
        """Return the size of a unit of the second rounding, relative to one of the first."""
        return author.constant("second_pass_unit", np.array(1 / (2 * self._highest), np.float32))

    @property
    def _highest(self) -> int:
        """Largest magnitude of an integer activation."""
        return NARROW_MAX if self.narrow else INT8_MAX

    def _zero_point(self, author: Author) -> ir.Value:
        return author.constant("activation_zero_point", np.array(self._highest + 1, np.uint8))

    def _zero_points(self, author: Author, tokens: ir.Value) -> ir.Value:
        """Return one zero point per row, made once for all layers."""
        name = f"zero_points_{tokens.name}"
        if name not in author.constants:
            zero_point = author.constant("row_zero_point", np.array([self._highest + 1], np.uint8))
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

        def quantize(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
            integers, scale = quantize_outputs(weight) if self.round_weight is None else self.round_weight(name, weight)
            return np.ascontiguousarray(integers.T), scale

        return self._store(author, f"{name}.weight", shape[::-1], shape[0], quantize)

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `OneByOne`."""
        if name in self.float32_layers:
            return FloatEncoding(self.dtype).linear(author, x, name, shape)
        weight, scale = self.columns(author, name, shape)
        step = x.step or author.constant("one", np.array(1, np.float32))
        product = self._product(author, x.values, weight, step, scale)
        second = x.second
        if second is None:
            return Rows(product, x.scale)
        rest = self._product(author, second.values, weight, second.scale, scale)
        if second.rows is None:
            return Rows(author.op("Add", product, rest), x.scale)
        return Rows(author.op("ScatterND", product, second.rows, rest, reduction="add"), x.scale)

    def _product(self, author: Author, x: ir.Value, weight: ir.Value, unit: ir.Value, scale: ir.Value) -> ir.Value:
        """Return integers [T, in] times a weight [in, out], times the unit [] and the scales [out]."""
        return author.op(INTEGER_PRODUCT, x, weight, unit, scale, self._zero_point(author), domain=MICROSOFT)


def quantize_outputs(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a weight [out, in] in symmetric int8, one scale per output: ([out, in] int8, [out] float32)."""
    integers, scale = np.empty(weight.shape, np.int8), np.empty(len(weight), np.float32)
    for some in row_chunks(*weight.shape):
        values = weight[some].astype(np.float32)
        largest = np.maximum(np.abs(values).max(axis=1), np.float32(SMALLEST_ROW_MAXIMUM))
        scale[some] = largest / INT8_MAX
        integers[some] = np.rint(values / scale[some, None])
    return integers, scale
