"""Compute the minimum time of work on this machine: its ceilings, the work of batches, and the seconds that it takes.

The model is "Roofline" (S. Williams, A. Waterman, D. Patterson, CACM 52(4), 2009): work takes as long as its arithmetic
at the machine's rate or its memory traffic at the machine's bandwidth, whichever is longer. Only work that the answer
needs is counted. Padding, normalization, activations and conversions are not counted, so they show as distance from the
ceiling.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from quoit.artifact import Costs, Precision
from quoit.engine.planner import Batch
from quoit.ort.sessions import open_session
from quoit.precisions import PRECISIONS

ROWS = 256
"""Number of rows of activations in a timed product; kernels do not get faster with more rows."""
TRIAL_SECONDS = 0.25
STREAM_VALUES = 16 << 20
"""Number of values of four bytes that each thread reads to time the memory; far more than any cache holds."""

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6


class Ceilings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The highest speeds that this machine reaches, in units of 1e9 a second.

    Attributes:
        int8: operations of a product of uint8 and int8; a multiplication and its addition are two operations.
        fp32: operations of a float32 product.
        bandwidth: bytes read from memory.
    """

    int8: float
    fp32: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """The work that batches need.

    Attributes:
        linear: operations of the linear layers, two for each weight and token; the last layer's output and MLP count
            only for the last token of each row.
        attention: operations of the two products of causal attention, two for each value.
        weights: number of weights of the linear layers that are read; each batch reads all of them once.
    """

    linear: int
    attention: int
    weights: int


def count(costs: Costs, batches: Iterable[Batch]) -> Work:
    """Count the work of batches; a shared prefix counts once.

    A batch of T tokens in the stream and R sequences has T * token_operations + R * answer_operations in its linear
    layers. Attention is causal: a sequence of S tokens has S (S + 1) / 2 pairs of a token and one that it attends to.
    """
    linear = attention = weights = 0
    for batch in batches:
        lengths = np.array([len(row) for row in batch.rows], np.int64)
        linear += batch.stream_tokens * costs.token_operations + len(lengths) * costs.answer_operations
        attention += int((lengths * (lengths + 1)).sum()) // 2 * costs.pair_operations
        weights += costs.weights
    return Work(linear, attention, weights)


def least_seconds(work: Work, ceilings: Ceilings, precision: Precision) -> float:
    """Return the minimum seconds of work on a CPU. Attention computes in float32, as do products of floats."""
    spec = PRECISIONS[precision]
    rate = ceilings.int8 if spec.integer_products else ceilings.fp32
    arithmetic = work.linear / rate + work.attention / ceilings.fp32
    traffic = work.weights * spec.weight_bytes / ceilings.bandwidth
    return max(arithmetic, traffic) / 1e9


def measure_ceilings(costs: Costs, threads: int) -> Ceilings:
    """Measure the ceilings on `threads` threads, with products of the model's own shapes, in about two seconds.

    Raises:
        ProviderError: onnxruntime is not installed.
    """
    generator = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"int8": [], "fp32": []}
    for inner, columns in costs.products:
        left = generator.integers(0, 255, (ROWS, inner), np.uint8)
        right = generator.integers(-127, 127, (inner, columns), np.int8)
        operations = 2 * ROWS * inner * columns
        for name, operator, kinds, arrays in (
            ("int8", "MatMulInteger", (UINT8, INT8, INT32), (left, right)),
            ("fp32", "MatMul", (FLOAT, FLOAT, FLOAT), (left.astype(np.float32), right.astype(np.float32))),
        ):
            rates[name].append(operations / _time_product(operator, kinds, *arrays, threads=threads))
    return Ceilings(max(rates["int8"]) / 1e9, max(rates["fp32"]) / 1e9, _bandwidth(threads) / 1e9)


def _time_product(
    operator: str, kinds: tuple[int, int, int], left: NDArray[np.generic], right: NDArray[np.generic], *, threads: int
) -> float:
    """Return the seconds of the fastest run of a product with constant weights."""
    session = open_session(author_product(operator, kinds, right), threads=threads)
    return fastest(lambda: session.run(None, {"a": left}))


def _bandwidth(threads: int) -> float:
    """Return the bytes a second that `threads` threads read together."""
    parts = [np.ones(STREAM_VALUES, np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = fastest(lambda: list(pool.map(lambda part: np.dot(part, part), parts)))
    return sum(part.nbytes for part in parts) / seconds


def fastest(run: Callable[[], object]) -> float:
    """Repeat a run for TRIAL_SECONDS and return the seconds of the fastest one, since a ceiling is the best case."""
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < TRIAL_SECONDS:
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
    return best


def author_product(operator: str, kinds: tuple[int, int, int], right: NDArray[np.generic]) -> bytes:
    """Author an ONNX model of one node, y = operator(a [M, K], b), with b [K, N] as its weights.

    The model is written as protocol buffers by hand. onnxruntime times a product fairly only if the weights are
    constant, and the runtime has no package that writes models. Field numbers are those of onnx.proto.

    Args:
        operator: `MatMulInteger` or `MatMul`.
        kinds: TensorProto.DataType of a, b and y.
        right: the weights b, [K, N].
    """
    weights = _field(1, right.shape[0]) + _field(1, right.shape[1]) + _field(2, kinds[1])
    weights += _field(8, "b") + _field(9, np.ascontiguousarray(right).tobytes())
    node = _field(1, "a") + _field(1, "b") + _field(2, "y") + _field(4, operator)
    inputs = _value("a", kinds[0], _field(2, "M"), _field(1, right.shape[0]))
    outputs = _value("y", kinds[2], _field(2, "M"), _field(1, right.shape[1]))
    graph = _field(1, node) + _field(2, "product") + _field(5, weights) + _field(11, inputs) + _field(12, outputs)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def _value(name: str, kind: int, *dimensions: bytes) -> bytes:
    """Encode a ValueInfoProto."""
    shape = b"".join(_field(1, dimension) for dimension in dimensions)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, shape)))


def _field(number: int, value: int | str | bytes) -> bytes:
    """Encode a field of a message: a whole number, or a text, bytes or a message with its length first."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    payload = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    """Encode a number as a varint: groups of seven bits, the least significant group first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
