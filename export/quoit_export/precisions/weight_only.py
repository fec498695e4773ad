"""Int4 for a device that multiplies 16-bit values by weights of few bits, which it unpacks as it goes.

The tensors are those of int4 as CPUs read them, where activations are rounded to integers too; here they are bfloat16
between the linear layers. What those store in 8 bits is unpacked before its product, and what they store in float32 is
multiplied in float32. This module does not know what a linear layer is for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from quoit_export.precisions.encoding import Author, Encoding, Rows
from quoit_export.precisions.floats import FloatEncoding
from quoit_export.precisions.int4 import Int4Encoding

FLOAT, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.BFLOAT16


@dataclass(frozen=True)
class WeightOnlyEncoding:
    """Int4's tensors, multiplied by bfloat16.

    Attributes:
        stored: how they are stored.
    """

    stored: Int4Encoding

    @property
    def dtype(self) -> ir.DataType:
        """See `Encoding`."""
        return BFLOAT16

    @property
    def stored_dtype(self) -> ir.DataType:
        """See `Encoding`."""
        return self.stored.stored_dtype

    def narrowed(self) -> "WeightOnlyEncoding":
        """See `Encoding`: no values are rounded to integers."""
        return self

    def embed(self, author: Author, ids: ir.Value, name: str, shape: tuple[int, int]) -> ir.Value:
        """See `Encoding`."""
        return author.op("Cast", self.stored.embed(author, ids, name, shape), to=BFLOAT16)

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:  # noqa: ARG002
        """See `Encoding`: all linear layers read the values as they are."""
        return x

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `Encoding`."""
        stored = self.stored
        if name in stored.others.float32_layers:
            wide = Rows(author.op("Cast", x.values, to=FLOAT))
            product = FloatEncoding(FLOAT).linear(author, wide, name, shape).values
            return Rows(author.op("Cast", product, to=BFLOAT16))
        if name in stored.int8_layers:
            weight, scale = stored.others.columns(author, name, shape)
            unpacked = author.op("DequantizeLinear", weight, scale, axis=1)
            return Rows(author.op("MatMul", x.values, author.op("Cast", unpacked, to=BFLOAT16)))
        weight, scale = stored.blocks(author, name, shape)
        return Rows(stored.product(author, x.values, weight, author.op("Cast", scale, to=BFLOAT16), shape))


def weight_only(encoding: Encoding) -> Encoding:
    """An encoding whose weights alone are rounded; itself, unless it is int4."""
    return WeightOnlyEncoding(encoding) if isinstance(encoding, Int4Encoding) else encoding
