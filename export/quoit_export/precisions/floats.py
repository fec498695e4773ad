"""Store every tensor in one floating-point type, float32, float16 or bfloat16; linear layers are MatMul."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quoit_export.errors import ExportError
from quoit_export.precisions.chunks import row_chunks
from quoit_export.precisions.encoding import Author, OneByOne, Rows


@dataclass(frozen=True)
class FloatEncoding(OneByOne):
    """Encoding that stores every tensor in one floating-point type."""

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


def cast(values: NDArray[Any], dtype: ir.DataType, name: str) -> NDArray[Any]:
    """Return values in another floating-point type.

    Raises:
        ExportError: a value is beyond the type's range.
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
