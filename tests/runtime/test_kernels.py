"""The native kernels against numpy, operator by operator, at the boundaries of their blocks, and with hostile graphs.

The instruction set is the one that this process chose. `test_every_instruction_set` runs this file once for each other
set that the CPU has.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from quoit.errors import ProviderError
from quoit.machine import cpu_features
from quoit.ort.kernels import INSTRUCTIONS, SWITCH, find_kernels
from quoit.ort.sessions import open_session

KERNELS = find_kernels()
pytestmark = pytest.mark.skipif(KERNELS.library is None, reason=f"no native kernels here: {KERNELS.reason}")
with_products = pytest.mark.skipif(not KERNELS.products, reason="products are onnxruntime's on this CPU")

HIGHEST = 63 if KERNELS.instructions == "avx2" else 127
EPSILON = 1e-6
ROUNDED = ("values", "scales", "rest", "rows")
OUTPUTS = {
    "QuantizeRows1": ROUNDED,
    "AddNormQuantizeRows1": (*ROUNDED, "total"),
    "Linear1": ("result",),
    "ThreeLinears1": ("first", "second", "third"),
    "GatedLinear1": ("result",),
    "PackedAttention1": ("context", "present_key", "present_value"),
}
Array = NDArray[Any]


def open_operator(
    kind: str,
    inputs: Mapping[str, Array | None],
    constants: Mapping[str, Array] | None = None,
    threads: int = 1,
    **attributes: Any,
) -> Any:
    """A session of one operator; constants are initializers, and inputs that are None are left out."""
    constants = constants or {}
    given = {name: value for name, value in inputs.items() if value is not None}
    names = [name if value is not None else "" for name, value in inputs.items()]
    node = helper.make_node(kind, [*names, *constants], list(OUTPUTS[kind]), domain="quoit", **attributes)
    types = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in given.items()}
    graph = helper.make_graph(
        [node],
        kind,
        [helper.make_tensor_value_info(name, types[name], [None] * value.ndim) for name, value in given.items()],
        [helper.make_empty_tensor_value_info(name) for name in OUTPUTS[kind]],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("quoit", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return open_session(model.SerializeToString(), threads=threads, kernels=KERNELS.library)


def run(
    kind: str,
    inputs: Mapping[str, Array | None],
    constants: Mapping[str, Array] | None = None,
    threads: int = 1,
    **attributes: Any,
) -> list[Array]:
    """What an operator makes of its inputs."""
    session = open_operator(kind, inputs, constants, threads, **attributes)
    found: list[Array] = session.run(None, {name: value for name, value in inputs.items() if value is not None})
    return found


def rows_of(count: int, size: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows of different sizes, some of them uneven."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((count, size)) * 10.0 ** generator.uniform(-3, 3, (count, 1))
    rows[::3, size // 2] *= 100
    return rows.astype(np.float32)


def thresholds(value: float) -> dict[str, Any]:
    return {"threshold": value, "narrow_threshold": value}


def expected_rounding(rows: Array, threshold: float) -> tuple[Array, Array, Array, Array]:
    """As `quoit_export.precisions.int8` has it: integers, scales, remainders, and the rows that have one."""
    largest = np.maximum(np.abs(rows).max(axis=1), np.float32(1e-20))
    scales = largest * np.float32(1 / HIGHEST)
    values = np.rint(rows / scales[:, None])
    lengths = np.sqrt(np.sum(rows.astype(np.float64) ** 2, axis=1))
    twice = np.flatnonzero(largest > lengths * threshold) if threshold > 0 else np.arange(len(rows) * (threshold == 0))
    rest = (rows - values * scales[:, None])[twice] / (scales * np.float32(1 / (2 * HIGHEST)))[twice, None]
    return values, scales, rest, twice


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5])
@pytest.mark.parametrize("shape", [(1, 16), (2, 48), (7, 1024), (33, 640), (130, 320)])
def test_rows_are_rounded_as_export_says(shape: tuple[int, int], threshold: float) -> None:
    rows = rows_of(*shape)
    rows[-1] = 0
    values, scales, rest, twice = run("QuantizeRows1", {"x": rows}, **thresholds(threshold))
    expected, expected_scales, expected_rest, expected_twice = expected_rounding(rows, threshold)
    np.testing.assert_array_equal(values.astype(int) - HIGHEST - 1, expected)
    np.testing.assert_array_equal(scales, expected_scales)
    np.testing.assert_array_equal(twice, expected_twice)
    assert np.abs(rest.astype(int) - HIGHEST - 1 - expected_rest).max(initial=0) <= 0.51
    assert len(twice) == {-1.0: 0, 0.0: shape[0]}.get(threshold, len(twice))


@pytest.mark.parametrize("shape", [(1, 16), (5, 48), (40, 1024)])
def test_a_sum_is_normed_and_rounded(shape: tuple[int, int]) -> None:
    x, residual = rows_of(*shape), rows_of(*shape, seed=1)
    weight = np.random.default_rng(2).standard_normal(shape[1]).astype(np.float32)
    inputs = {"x": x, "residual": residual, "weight": weight}
    values, scales, rest, twice, total = run("AddNormQuantizeRows1", inputs, epsilon=EPSILON, **thresholds(0.0))
    np.testing.assert_array_equal(total, x + residual)
    wide = total.astype(np.float64)
    normed = wide / np.sqrt(np.mean(wide**2, axis=1, keepdims=True) + EPSILON) * weight
    np.testing.assert_array_equal(twice, np.arange(len(x)))
    unit = scales[:, None] / (2 * HIGHEST)
    found = (values.astype(int) - HIGHEST - 1) * scales[:, None] + (rest.astype(int) - HIGHEST - 1) * unit
    np.testing.assert_allclose(found, normed, atol=float(0.51 * unit.max()), rtol=1e-5)
    assert (np.abs(found - normed) <= 0.51 * unit + 1e-5 * np.abs(normed)).all()


def rounded(count: int, size: int, threshold: float, seed: int = 0) -> dict[str, Array]:
    found = run("QuantizeRows1", {"x": rows_of(count, size, seed)}, **thresholds(threshold))
    return dict(zip(ROUNDED, found, strict=True))


def weights(*shapes: tuple[int, int]) -> dict[str, Array]:
    generator = np.random.default_rng(7)
    made: dict[str, Array] = {}
    for number, shape in enumerate(shapes):
        made[f"weight{number}"] = generator.integers(-127, 128, shape).astype(np.int8)
        made[f"scale{number}"] = (10 ** generator.uniform(-3, 0, shape[1])).astype(np.float32)
    return made


def product(rows: Mapping[str, Array], weight: Array, scale: Array) -> NDArray[np.float64]:
    """The exact product of rounded rows."""
    integers = rows["values"].astype(np.float64) - HIGHEST - 1
    integers[rows["rows"]] += (rows["rest"].astype(np.float64) - HIGHEST - 1) / (2 * HIGHEST)
    exact: NDArray[np.float64] = integers @ weight.astype(np.float64) * scale * rows["scales"][:, None]
    return exact


def assert_close(found: Array, exact: Array) -> None:
    """Within some roundings to float32 of the largest value of each row."""
    assert found.shape == exact.shape
    assert (np.abs(found - exact) <= 2e-6 * np.abs(exact).max(axis=1, keepdims=True)).all()


@with_products
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5])
@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 63, 64, 65, 130])
@pytest.mark.parametrize("count", [1, 5, 6, 7, 12, 13])
def test_products_are_exact(count: int, outputs: int, threshold: float) -> None:
    rows, made = rounded(count, 48, threshold), weights((48, outputs))
    (found,) = run("Linear1", rows, made)
    assert_close(found, product(rows, *made.values()))


@with_products
@pytest.mark.parametrize("count", [64, 65, 96, 97, 192, 193, 400])
@pytest.mark.parametrize("inputs", [16, 1024, 8192])
def test_products_of_many_rows_are_exact(count: int, inputs: int) -> None:
    """Around the numbers of rows at which a product is cut into tasks."""
    rows, made = rounded(count, inputs, 0.5), weights((inputs, 70))
    (found,) = run("Linear1", rows, made, threads=2)
    assert_close(found, product(rows, *made.values()))


@with_products
def test_the_largest_sums_fit() -> None:
    """All integers at their largest, over the most inputs that a weight may have."""
    inputs = 1 << 16
    rows: dict[str, Array] = {
        "values": np.full((1, inputs), 2 * HIGHEST + 1, np.uint8),
        "scales": np.ones(1, np.float32),
        "rest": np.empty((0, inputs), np.uint8),
        "rows": np.empty(0, np.int64),
    }
    made: dict[str, Array] = {"weight0": np.full((inputs, 2), 127, np.int8), "scale0": np.ones(2, np.float32)}
    (found,) = run("Linear1", rows, made)
    np.testing.assert_allclose(found, inputs * HIGHEST * 127.0, rtol=1e-6)


@with_products
@pytest.mark.parametrize("threshold", [-1.0, 0.5])
def test_three_products_of_one_input(threshold: float) -> None:
    rows, made = rounded(9, 64, threshold), weights((64, 130), (64, 65), (64, 3))
    found = run("ThreeLinears1", rows, made, threads=2)
    for number, one in enumerate(found):
        assert_close(one, product(rows, made[f"weight{number}"], made[f"scale{number}"]))


@with_products
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5])
@pytest.mark.parametrize("outputs", [1, 31, 32, 33, 100])
def test_gate_and_up(outputs: int, threshold: float) -> None:
    rows, made = rounded(13, 48, threshold), weights((48, outputs), (48, outputs))
    rows["scales"] *= np.float32(1e-3)
    (found,) = run("GatedLinear1", rows, made)
    gate, up = (product(rows, made[f"weight{number}"], made[f"scale{number}"]) for number in (0, 1))
    with np.errstate(over="ignore"):
        exact = gate / (1 + np.exp(-gate)) * up
    np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-6 * float(np.abs(exact).max()))


@with_products
@pytest.mark.parametrize(("kind", "matrices"), [("Linear1", 1), ("ThreeLinears1", 3), ("GatedLinear1", 2)])
def test_a_row_does_not_see_the_others(kind: str, matrices: int) -> None:
    """The same bits alone and among others, on one thread and on four."""
    rows, made = rounded(200, 96, 0.5), weights(*[(96, 80)] * matrices)
    together = run(kind, rows, made, threads=4)
    places = {row: place for place, row in enumerate(rows["rows"])}
    session = open_operator(kind, rows, made)
    for row in (0, 1, 2, 100, 199):
        place = places.get(row)
        alone = {
            "values": rows["values"][row : row + 1],
            "scales": rows["scales"][row : row + 1],
            "rest": rows["rest"][place : place + 1] if place is not None else rows["rest"][:0],
            "rows": np.zeros(int(place is not None), np.int64),
        }
        for one, many in zip(session.run(None, alone), together, strict=True):
            np.testing.assert_array_equal(one[0], many[row])


@with_products
def test_what_is_no_number_shows() -> None:
    rows = rows_of(3, 32)
    rows[1, 5] = np.nan
    rows[2, 5] = np.inf
    parts = dict(zip(ROUNDED, run("QuantizeRows1", {"x": rows}, **thresholds(-1.0)), strict=True))
    (found,) = run("Linear1", parts, weights((32, 8)))
    assert np.isfinite(found[0]).all()
    assert not np.isfinite(found[1:]).any()


def attention_inputs(
    lengths: Sequence[int], heads: int, kv_heads: int, size: int, past: int = 0, shared: int = 0, seed: int = 0
) -> dict[str, Array | None]:
    """Texts of these lengths behind a past, whose first `shared` tokens are one part of the stream."""
    generator = np.random.default_rng(seed)
    tokens = shared + sum(length - shared for length in lengths)
    width = past + max(lengths)
    index, slots = np.zeros((len(lengths), width), np.int64), np.zeros(tokens, np.int64)
    at = shared
    for row, length in enumerate(lengths):
        own = np.arange(at, at + length - shared)
        stream = np.concatenate([np.arange(shared), own])
        index[row, : past + length] = np.concatenate([np.arange(past), past + stream])
        slots[own] = row * width + past + shared + np.arange(len(own))
        at += len(own)
    slots[:shared] = past + np.arange(shared)
    angles = np.arange(width + 3)[:, None] * 10.0 ** -np.linspace(0, 3, size // 2)

    def values(*shape: int) -> Array:
        return generator.standard_normal(shape).astype(np.float32)

    return {
        "query": values(tokens, heads * size),
        "key": values(tokens, kv_heads * size),
        "value": values(tokens, kv_heads * size),
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
        "index": index,
        "slots": slots,
        "past_key": values(past, kv_heads * size),
        "past_value": values(past, kv_heads * size),
        "kept": np.arange(0, tokens, 2),
        "query_norm": values(size),
        "key_norm": values(size),
    }


def attention_attributes(heads: int, kv_heads: int, size: int) -> dict[str, Any]:
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": size, "epsilon": EPSILON, "scale": size**-0.5}


def expected_attention(inputs: Mapping[str, Array | None], heads: int, kv_heads: int, size: int) -> list[Array]:
    """Contexts, kept keys and kept values, in float64."""
    wide = {name: None if value is None else value.astype(np.float64) for name, value in inputs.items()}

    def split(name: str, count: int, norm: str | None = None) -> Array:
        value, weight = wide[name], None if norm is None else wide[norm]
        assert value is not None
        parts = value.reshape(len(value), count, size)
        if weight is not None:
            parts = parts / np.sqrt(np.mean(parts**2, axis=-1, keepdims=True) + EPSILON) * weight
        return parts

    def turn(parts: Array, positions: Array) -> Array:
        assert wide["cos"] is not None
        assert wide["sin"] is not None
        cos, sin = wide["cos"][positions][:, None], wide["sin"][positions][:, None]
        first, second = parts[..., : size // 2], parts[..., size // 2 :]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    index, slots, kept = (np.asarray(inputs[name]) for name in ("index", "slots", "kept"))
    query, key = split("query", heads, "query_norm"), split("key", kv_heads, "key_norm")
    keys = np.concatenate([split("past_key", kv_heads), key])
    values = np.concatenate([split("past_value", kv_heads), split("value", kv_heads)])
    past = len(keys) - len(key)
    context = np.empty((len(slots), heads, size))
    for place, slot in enumerate(slots):
        row, position = divmod(int(slot), index.shape[1])
        seen = index[row, : position + 1]
        own = turn(query[seen[-1:] - past], np.array([position]))[0]
        turned = turn(keys[seen], np.arange(position + 1))
        for head in range(heads):
            of = head // (heads // kv_heads)
            scores = turned[:, of] @ own[head] / np.sqrt(size)
            shares = np.exp(scores - scores.max())
            context[place, head] = shares / shares.sum() @ values[seen, of]
    return [
        context.reshape(len(slots), -1),
        key[kept].reshape(len(kept), -1),
        values[past:][kept].reshape(len(kept), -1),
    ]


@pytest.mark.parametrize(("past", "shared"), [(0, 0), (19, 0), (0, 5), (64, 3)])
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 2, 16), (3, 3, 48), (6, 1, 64), (4, 2, 128), (2, 1, 640)])
def test_attention_is_what_its_definition_says(heads: int, kv_heads: int, size: int, past: int, shared: int) -> None:
    """With lengths around the tiles of keys, and the number of queries of one task."""
    inputs = attention_inputs([7, 15, 16, 17, 31, 33, 63, 65, 97], heads, kv_heads, size, past, shared)
    found = run("PackedAttention1", inputs, **attention_attributes(heads, kv_heads, size))
    for one, expected in zip(found, expected_attention(inputs, heads, kv_heads, size), strict=True):
        np.testing.assert_allclose(one, expected, atol=2e-5)


def test_attention_without_norms() -> None:
    inputs = attention_inputs([5, 9], 4, 2, 32) | {"query_norm": None, "key_norm": None}
    found = run("PackedAttention1", inputs, **attention_attributes(4, 2, 32))
    np.testing.assert_allclose(found[0], expected_attention(inputs, 4, 2, 32)[0], atol=2e-5)


def test_attention_of_some_tokens_in_any_order() -> None:
    inputs = attention_inputs([40, 100], 4, 2, 32)
    attributes = attention_attributes(4, 2, 32)
    everything = run("PackedAttention1", inputs, **attributes)[0]
    chosen = np.array([139, 3, 77, 39, 40])
    some = run("PackedAttention1", inputs | {"slots": np.asarray(inputs["slots"])[chosen]}, **attributes)[0]
    np.testing.assert_array_equal(some, everything[chosen])


def test_large_scores_do_not_overflow() -> None:
    inputs = attention_inputs([130], 2, 1, 64)
    inputs["query_norm"] = np.full(64, 1e3, np.float32)
    inputs["key_norm"] = np.full(64, 1e3, np.float32)
    found = run("PackedAttention1", inputs, **attention_attributes(2, 1, 64))[0]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected_attention(inputs, 2, 1, 64)[0], atol=0.05)


def test_what_is_no_number_shows_in_attention() -> None:
    inputs = attention_inputs([20], 2, 1, 16)
    key = np.array(inputs["key"])
    key[7, 3] = np.nan
    found = run("PackedAttention1", inputs | {"key": key}, **attention_attributes(2, 1, 16))[0]
    assert np.isfinite(found[:7]).all()
    assert np.isnan(found[7:]).any(axis=1).all()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_text_does_not_see_its_batch_in_attention(threads: int) -> None:
    """The same bits alone, behind a shared prefix, and behind a past; the past's keys are kept without positions."""
    heads, kv_heads, size, shared = 4, 2, 32, 20
    attributes = attention_attributes(heads, kv_heads, size)
    inputs = attention_inputs([90, 150, 64], heads, kv_heads, size, shared=shared)
    inputs["kept"] = np.arange(shared)
    context, key, value = run("PackedAttention1", inputs, threads=threads, **attributes)
    at = shared
    for length in (90, 150, 64):
        own = np.arange(at, at + length - shared)
        stream = np.concatenate([np.arange(shared), own])
        one: dict[str, Array | None] = {name: np.asarray(inputs[name]) for name in inputs}
        for name in ("query", "key", "value"):
            one[name] = np.asarray(inputs[name])[stream]
        one["index"], one["slots"] = np.arange(length)[None], np.arange(length)
        alone = run("PackedAttention1", one, **attributes)[0]
        np.testing.assert_array_equal(alone[shared:], context[own])
        for name in ("query", "key", "value"):
            one[name] = np.asarray(inputs[name])[own]
        one["past_key"], one["past_value"] = key, value
        one["slots"], one["kept"] = np.arange(shared, length), np.empty(0, np.int64)
        behind = run("PackedAttention1", one, **attributes)[0]
        np.testing.assert_array_equal(behind, context[own])
        at += len(own)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "an index behind the stream": ({"index": np.full((1, 8), 8)}, "an index is no token"),
    "a negative index": ({"index": np.full((1, 8), -1)}, "an index is no token"),
    "a slot behind the rectangle": ({"slots": np.array([8])}, "a slot lies outside the rectangle"),
    "a negative slot": ({"slots": np.array([-1])}, "a slot lies outside the rectangle"),
    "a kept row behind the stream": ({"kept": np.array([8])}, "a kept row is none of the stream"),
    "a negative kept row": ({"kept": np.array([-1])}, "a kept row is none of the stream"),
    "short tables": ({"cos": np.ones((7, 8), np.float32), "sin": np.ones((7, 8), np.float32)}, "behind the tables"),
    "narrow tables": ({"cos": np.ones((9, 4), np.float32)}, "cos and sin have to be"),
    "a narrow query": ({"query": np.ones((8, 16), np.float32)}, "query, key and value have to be"),
    "a short value": ({"value": np.ones((7, 16), np.float32)}, "query, key and value have to be"),
    "a past of keys alone": ({"past_key": np.ones((1, 16), np.float32)}, "past keys and values have to be"),
    "a narrow norm": ({"key_norm": np.ones(8, np.float32)}, "both norms have to be"),
    "a norm of queries alone": ({"key_norm": None}, "both norms have to be"),
    "an index of one axis": ({"index": np.arange(8)}, "other axes"),
    "an index of four axes": ({"index": np.zeros((1, 1, 1, 8), np.int64)}, "more than three axes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_input_is_refused(name: str) -> None:
    changes, words = HOSTILE[name]
    inputs = attention_inputs([8], 2, 1, 16) | changes
    with pytest.raises(Exception, match=words):
        run("PackedAttention1", inputs, **attention_attributes(2, 1, 16))


def test_a_query_in_the_past_is_refused() -> None:
    inputs = attention_inputs([8], 2, 1, 16, past=4) | {"slots": np.array([3])}
    with pytest.raises(Exception, match="a slot lies in the past"):
        run("PackedAttention1", inputs, **attention_attributes(2, 1, 16))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_dim": 24}, "multiple of 16"),
        ({"head_dim": 656}, "at most 640"),
        ({"head_dim": -16}, "multiple of 16"),
        ({"kv_heads": 0}, "multiple of kv_heads"),
        ({"heads": 3, "kv_heads": 2}, "multiple of kv_heads"),
        ({"heads": 97}, "at most 96 times"),
        ({"heads": (1 << 16) + 1, "kv_heads": (1 << 16) + 1}, "more than 65536 heads"),
        ({"heads": 1 << 60, "kv_heads": 1 << 60}, "more than 65536 heads"),
    ],
)
def test_hostile_attributes_are_refused(changes: dict[str, Any], words: str) -> None:
    inputs = attention_inputs([8], 2, 1, 16)
    with pytest.raises(Exception, match=words):
        open_operator("PackedAttention1", inputs, **(attention_attributes(2, 1, 16) | changes))


@with_products
def test_hostile_products_are_refused() -> None:
    rows, made = rounded(4, 32, 0.0), weights((32, 8))
    wrong: list[tuple[dict[str, Array], str]] = [
        ({"rows": np.array([0, 1, 2, 4])}, "distinct rows"),
        ({"rows": np.array([0, 1, 1, 2])}, "distinct rows"),
        ({"rows": np.array([0, -1, 1, 2])}, "distinct rows"),
        ({"rows": np.array([0, 1])}, "remainders have to be"),
        ({"scales": np.ones(3, np.float32)}, "rounded rows have to be"),
        ({"values": np.zeros((4, 16), np.uint8)}, "rounded rows have to be"),
        ({"rest": np.zeros((9, 32), np.uint8), "rows": np.arange(9)}, "more remainders than rows"),
    ]
    for changes, words in wrong:
        with pytest.raises(Exception, match=words):
            run("Linear1", rows | changes, made)
    for constants, words in (
        ({"weight0": np.zeros((24, 8), np.int8)}, "multiple of 16"),
        ({"weight0": np.zeros((1 << 17, 8), np.int8)}, "at most 65536"),
        ({"scale0": np.ones(7, np.float32)}, "has to have N scales"),
    ):
        with pytest.raises(Exception, match=words):
            open_operator("Linear1", rows, made | constants)
    with pytest.raises(Exception, match="weights have to be constant"):
        open_operator("Linear1", rows | made)
    with pytest.raises(Exception, match="gate and up have to have one shape"):
        open_operator("GatedLinear1", rows, weights((32, 8), (32, 9)))
    with pytest.raises(Exception, match="as many rows"):
        open_operator("ThreeLinears1", rows, weights((32, 8), (48, 8), (32, 8)))
    with pytest.raises(Exception, match="multiple of 16"):
        run("QuantizeRows1", {"x": np.ones((2, 24), np.float32)}, **thresholds(0.0))
    with pytest.raises(Exception, match="threshold"):
        open_operator("QuantizeRows1", {"x": np.ones((2, 32), np.float32)})


def test_nothing_is_computed_of_nothing() -> None:
    """An empty batch, as no run gives one, is no error."""
    found = run("QuantizeRows1", {"x": np.empty((0, 32), np.float32)}, **thresholds(0.0))
    assert [len(one) for one in found] == [0, 0, 0, 0]


def test_the_switch_and_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_kernels(False).library is None
    assert find_kernels(True) == KERNELS
    monkeypatch.setenv(SWITCH, "0")
    assert find_kernels() == find_kernels(None)
    assert (find_kernels().library, find_kernels().reason) == (None, "QUOIT_KERNELS=0 switches them off")
    with pytest.raises(ProviderError, match="were asked for, and do not run here: QUOIT_KERNELS=0 "):
        find_kernels(True)


@pytest.mark.skipif(SWITCH in os.environ, reason="one of these processes")
@pytest.mark.parametrize("instructions", [name for name in INSTRUCTIONS if name != KERNELS.instructions])
def test_every_instruction_set(instructions: str) -> None:
    features = cpu_features() or ()
    if instructions not in features and not (instructions == "avx2" and "avx2" in features):
        pytest.skip(f"this CPU has no {instructions}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    done = subprocess.run(
        command, env={**os.environ, SWITCH: instructions}, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
