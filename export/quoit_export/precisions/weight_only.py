"""Compute int4 on a device that multiplies 16-bit values by weights of few bits, and unpacks the weights as it goes.

The tensors are the same as in int4 for CPUs. There, activations are rounded to integers too; here they are bfloat16
between the linear layers. Weights stored in 8 bits are unpacked before their product. Weights stored in float32 are
multiplied in float32. This module does not know what a linear layer is for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from quoit_export.precisions.encoding import Author, Encoding, OneByOne, Rows
from quoit_export.precisions.floats import FloatEncoding
from quoit_export.precisions.int4 import Int4Encoding

FLOAT, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.BFLOAT16


@dataclass(frozen=True)
class WeightOnlyEncoding(OneByOne):
    """Encoding that multiplies int4's tensors by bfloat16 values.

    Attributes:
        stored: the encoding that stores the tensors.
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
    """Return int4 as an encoding that rounds weights alone; return any other encoding unchanged."""
    return WeightOnlyEncoding(encoding) if isinstance(encoding, Int4Encoding) else encoding
