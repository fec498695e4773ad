"""Store weights in 4 bits, in blocks of 32, for MatMulNBits; linear layers that lose too much are stored as in int8.

MatMulNBits rounds activations by itself, block by block. It saves memory, not time. The token table and the values
between the linear layers are those of int8. CUDA multiplies the same tensors differently, see `weight_only`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from quoit_export.precisions.blocks import BITS, BLOCK, block_count, pack_blocks
from quoit_export.precisions.encoding import MICROSOFT, Author, OneByOne, Quantized, Rows
from quoit_export.precisions.int8 import Int8Encoding

INT8_ARITHMETIC = 4
"""Value of MatMulNBits' `accuracy_level` that rounds activations to int8, in the blocks of the weights."""


@dataclass(frozen=True)
class Int4Encoding(OneByOne):
    """Encoding in four-bit blocks, except for linear layers that are stored in int8 or float32.

    Attributes:
        others: the encoding of the token table, and of linear layers in int8 or float32. The latter are those in
            `others.float32_layers`.
        int8_layers: names of the linear layers in int8; linear layers that read one input are stored alike.
    """

    others: Int8Encoding = field(default_factory=Int8Encoding)
    int8_layers: frozenset[str] = frozenset()

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
        return self.others.prepare(author, x, tokens, names) if self.int8_layers.issuperset(names) else x

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        """See `OneByOne`."""
        if name in self.int8_layers | self.others.float32_layers:
            return self.others.linear(author, x, name, shape)
        weight, scale = self.blocks(author, name, shape)
        return Rows(self.product(author, x.values, weight, scale, shape, accuracy_level=INT8_ARITHMETIC), x.scale)

    def gated(self, author: Author, x: Rows, gate: str, up: str, shape: tuple[int, int]) -> Rows | None:
        """See `Encoding`."""
        return self.others.gated(author, x, gate, up, shape) if gate in self.int8_layers else None

    def blocks(self, author: Author, name: str, shape: tuple[int, int]) -> tuple[ir.Value, ir.Value]:
        """Return a linear layer's four-bit weight, as MatMulNBits packs it, and its scales, [out, blocks]."""
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
        """Return values [T, in] times the weight and scale that `blocks` returns, [T, out]."""
        numbers = {"N": shape[0], "K": shape[1], "bits": BITS, "block_size": BLOCK, **attributes}
        return author.op("MatMulNBits", x, weight, scale, domain=MICROSOFT, **numbers)
