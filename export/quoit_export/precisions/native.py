"""Compute int8 by quoit's own operators, with the tensors that int8 and int4 store anyway; see `runtime/kernels`.

One operator rounds an input, and finds the rows that take a second pass, by the threshold for the bits that the CPU's
products bear. Others multiply the rounded rows. There are no fixed steps: the largest magnitude of a row costs the
operator nothing. This module does not know what a linear layer is for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import onnx_ir as ir

from quoit_export.precisions.encoding import NATIVE, Author, Encoding, Rows
from quoit_export.precisions.int4 import Int4Encoding
from quoit_export.precisions.int8 import Int8Encoding

ROUNDED_TYPES = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8, ir.DataType.INT64)
"""Types of the integers, the rows' scales, the remainders, and the rows with a remainder."""
NO_ROWS = -1.0
"""Threshold of an input without second passes."""
TOGETHER = 3
"""Number of linear layers of one input that one operator multiplies."""
MULTIPLE = 16
MAX_HEAD_DIM = 640
"""Number that the operators' inputs and heads are a multiple of, and the size of the largest head."""


@dataclass(frozen=True)
class RoundedRows(Rows):
    """Rows that QuantizeRows1 rounded: the integers [T, in] are `values`.

    Attributes:
        parts: all of the operator's results: the integers, the rows' scales [T], the remainders [M, in] of the rows
            that take a second pass, and the indices of these rows [M].
    """

    parts: tuple[ir.Value, ...] = ()


@dataclass(frozen=True)
class NativeInt8Encoding(Int8Encoding):
    """Int8 with its products by quoit's own operators."""

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:
        """See `Encoding`."""
        if self.float32_layers.issuperset(names):
            return super().prepare(author, x, tokens, names)
        thresholds = {
            "threshold": self.second_pass.get(names[0], NO_ROWS),
            "narrow_threshold": self.narrow_second_pass.get(names[0], NO_ROWS),
        }
        parts = author.ops("QuantizeRows1", len(ROUNDED_TYPES), x.values, domain=NATIVE, **thresholds)
        for part, dtype in zip(parts, ROUNDED_TYPES, strict=True):
            part.dtype = dtype
        return RoundedRows(parts[0], parts=tuple(parts))

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `OneByOne`."""
        if not isinstance(x, RoundedRows):
            return super().linear(author, x, name, shape)
        return Rows(author.op("Linear1", *x.parts, *self.columns(author, name, shape), domain=NATIVE))

    def linears(self, author: Author, x: Rows, layers: Mapping[str, tuple[int, int]]) -> list[Rows]:
        """See `Encoding`."""
        if len(layers) != TOGETHER or not isinstance(x, RoundedRows):
            return super().linears(author, x, layers)
        weights = [value for name, shape in layers.items() for value in self.columns(author, name, shape)]
        return [Rows(value) for value in author.ops("ThreeLinears1", TOGETHER, *x.parts, *weights, domain=NATIVE)]

    def gated(self, author: Author, x: Rows, gate: str, up: str, shape: tuple[int, int]) -> Rows | None:
        """See `Encoding`."""
        if not isinstance(x, RoundedRows):
            return None
        weights = [value for name in (gate, up) for value in self.columns(author, name, shape)]
        return Rows(author.op("GatedLinear1", *x.parts, *weights, domain=NATIVE))


def native(encoding: Encoding) -> Encoding:
    """Return int8, and int4's layers in int8, with their products by quoit's own operators."""
    if isinstance(encoding, Int8Encoding):
        return NativeInt8Encoding(**{field.name: getattr(encoding, field.name) for field in fields(encoding)})
    if isinstance(encoding, Int4Encoding):
        others = native(encoding.others)
        assert isinstance(others, Int8Encoding)
        return replace(encoding, others=others)
    return encoding
