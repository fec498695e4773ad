"""Quantize weights to four bits in blocks, as onnxruntime's MatMulNBits reads them.

Along its inputs, a weight [out, in] is cut into blocks of BLOCK values with one scale each. A value is an integer from
-8 to 7 times that scale; the integer is stored plus 8. The scale is chosen among candidates. Each candidate is refitted
by least squares to the integers that it leads to, as in llama.cpp's k-quants (`make_qx_quants` in ggml-quants.c). This
module does not know which weights can be stored in four bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit_export.precisions.chunks import row_chunks

BITS = 4
BLOCK = 32
LOWEST, HIGHEST = -8, 7
CANDIDATES = (-8.0, -8.5, -9.25, -7.5)
"""Values, before rounding and clipping, of a block's element of largest magnitude; -8 uses the full range."""
TINY = np.float32(1e-30)

Values = NDArray[np.float32]


def block_count(inputs: int) -> int:
    """Return the number of blocks in a row of a weight."""
    return -(-inputs // BLOCK)


def round_blocks(weight: NDArray[Any], candidates: Sequence[float] = CANDIDATES) -> tuple[NDArray[np.int8], Values]:
    """Return the integers [out, blocks, BLOCK] of a weight [out, in], and the scales [out, blocks].

    The last block is filled up with zeros if `in` is no multiple of BLOCK.
    """
    outputs, inputs = weight.shape
    blocks = block_count(inputs)
    integers = np.empty((outputs, blocks, BLOCK), np.int8)
    scales = np.empty((outputs, blocks), np.float32)
    for part in row_chunks(outputs, blocks * BLOCK):
        some = np.zeros((len(weight[part]), blocks * BLOCK), np.float32)
        some[:, :inputs] = weight[part]
        integers[part], scales[part] = _best(some.reshape(-1, blocks, BLOCK), candidates)
    return integers, scales


def _best(values: Values, candidates: Sequence[float]) -> tuple[NDArray[np.int8], Values]:
    """Return each block's integers and scale for the candidate with the smallest squared error."""
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=-1, keepdims=True), axis=-1)
    found = np.zeros(values.shape, np.int8)
    scales = np.zeros(largest.shape, np.float32)
    least = np.full(largest.shape, np.inf, np.float32)
    for target in candidates:
        steps = largest / np.float32(target)
        numbers = np.clip(np.rint(values / np.where(steps == 0, 1, steps)), LOWEST, HIGHEST)
        power = np.maximum(np.sum(numbers * numbers, axis=-1, keepdims=True), TINY)
        fitted = np.sum(numbers * values, axis=-1, keepdims=True) / power
        error = np.sum((numbers * fitted - values) ** 2, axis=-1, keepdims=True)
        better = error < least
        found = np.where(better, numbers.astype(np.int8), found)
        scales, least = np.where(better, fitted, scales), np.where(better, error, least)
    return found, scales[..., 0]


def pack_blocks(weight: NDArray[Any]) -> tuple[NDArray[np.uint8], Values]:
    """Return a weight [out, in] as it is stored, and the scales [out, blocks].

    A byte holds two integers, the first in its low half: [out, blocks, BLOCK / 2] uint8.
    """
    integers, scales = round_blocks(weight)
    stored = (integers - LOWEST).astype(np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or(stored[..., 0::2], np.left_shift(stored[..., 1::2], np.uint8(BITS)))
    return packed, scales


def restore_blocks(weight: NDArray[Any], candidates: Sequence[float] = CANDIDATES) -> Values:
    """Return a weight [out, in] with the values that its blocks hold, in float32."""
    integers, scales = round_blocks(weight, candidates)
    values: Values = (integers * scales[..., None]).reshape(len(weight), -1)[:, : weight.shape[1]]
    return values
