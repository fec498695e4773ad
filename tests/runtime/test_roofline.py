"""What work is counted, and how fast the machine is: against the graph itself and plain loops."""

from typing import Any, get_args

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from architectures import config_of
from quoit.artifact import Artifact, Costs, Precision
from quoit.engine.planner import Limits, plan_batches
from quoit.ort.module import onnxruntime
from quoit.tuning.roofline import (
    FLOAT,
    INT8,
    INT32,
    UINT8,
    Ceilings,
    Work,
    author_product,
    count,
    fastest,
    least_seconds,
    measure_ceilings,
)

LIMITS = Limits(stream_tokens=512, rectangle_tokens=2048, tiled_from=385)
ROWS_TIMED = 64
ROWS = [[1, 2, 3, 4], [1, 2, 3, 5, 6], [7] * 9]


def test_the_weights_are_those_of_the_graph(artifact: Artifact) -> None:
    """Every matrix of the fp32 graph but the token table, which is looked up and not multiplied."""
    model = onnx.load(artifact.folder / "fp32" / "model.onnx", load_external_data=False)
    (batch,) = plan_batches(ROWS, LIMITS)
    costs = artifact.manifest.costs
    products = {name for node in model.graph.node if node.op_type == "MatMul" for name in node.input}
    sizes = [int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.name in products]
    assert count(costs, [batch]).weights == sum(sizes) > 0


def test_operations_are_counted_token_by_token(artifact: Artifact) -> None:
    numbers, costs = config_of(artifact), artifact.manifest.costs
    hidden, inner, layers = numbers.hidden_size, numbers.intermediate_size, numbers.num_hidden_layers
    query, key = (each * numbers.head_dim for each in (numbers.num_attention_heads, numbers.num_key_value_heads))
    linear = attention = 0
    distinct = {tuple(row[: place + 1]) for row in ROWS for place in range(len(row))}
    last = {tuple(row) for row in ROWS}
    for layer in range(layers):
        linear += sum(2 * hidden * (query + key + key) for _ in distinct)
        read = last if layer == layers - 1 else distinct
        linear += sum(2 * (query * hidden + 3 * hidden * inner) for _ in read)
        attention += sum(2 * 2 * query for row in ROWS for place in range(len(row)) for _ in range(place + 1))
    assert count(costs, plan_batches(ROWS, LIMITS)) == Work(
        linear, attention, count(costs, plan_batches(ROWS, LIMITS)).weights
    )


def test_the_slower_of_arithmetic_and_memory_decides() -> None:
    ceilings = Ceilings(int8=100.0, fp32=10.0, bandwidth=1.0)
    busy = Work(linear=1000 * 10**9, attention=10 * 10**9, weights=10**9)
    assert least_seconds(busy, ceilings, "int8") == pytest.approx(11)
    assert least_seconds(busy, ceilings, "fp32") == pytest.approx(101)
    reading = Work(linear=10**9, attention=0, weights=10**9)
    assert least_seconds(reading, ceilings, "int8") == pytest.approx(1)
    assert least_seconds(reading, ceilings, "fp32") == pytest.approx(4)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_every_precision_has_a_limit(precision: Precision) -> None:
    """Fewer bits are fewer bytes, where memory decides."""
    ceilings = Ceilings(int8=1e6, fp32=1e6, bandwidth=1.0)
    least = least_seconds(Work(linear=10**9, attention=0, weights=10**9), ceilings, precision)
    assert least == pytest.approx({"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int4": 0.625}[precision])


@pytest.mark.parametrize(
    ("operator", "kinds", "types"),
    [
        ("MatMulInteger", (UINT8, INT8, INT32), (np.uint8, np.int8)),
        ("MatMul", (FLOAT, FLOAT, FLOAT), (np.float32,) * 2),
    ],
)
def test_a_product_is_a_sound_model_that_multiplies(
    operator: str, kinds: tuple[int, int, int], types: tuple[type, type]
) -> None:
    generator = np.random.default_rng(0)
    left: NDArray[Any] = generator.integers(0, 9, (5, 200)).astype(types[0])
    right: NDArray[Any] = generator.integers(0, 9, (200, 130)).astype(types[1])
    model = author_product(operator, kinds, right)
    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    session = onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"a": left})[0], left.astype(np.int64) @ right.astype(np.int64))


def test_no_product_is_faster_than_the_ceiling() -> None:
    """Beyond what noise explains: the same product, in the same process."""
    costs = Costs(1, 1, 1, 1, products=((256, 256), (256, 512), (512, 256)), position_values=1)
    ceilings = measure_ceilings(costs, threads=1)
    left, right = np.ones((ROWS_TIMED, 256), np.float32), np.ones((256, 512), np.float32)
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime().InferenceSession(author_product("MatMul", (FLOAT, FLOAT, FLOAT), right), options)
    rate = 2 * ROWS_TIMED * 256 * 512 / fastest(lambda: session.run(None, {"a": left})) / 1e9
    assert 0 < rate < 3 * ceilings.fp32
    assert ceilings.int8 > 0
    assert ceilings.bandwidth > 0
