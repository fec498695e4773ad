"""Rows in two passes: what they gain, which rows take them, and that a row does not see the others."""

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from quoit.ort.probe import exact_int8
from quoit.ort.sessions import open_session
from quoit_export.graph.model import IR_VERSION, OPSET
from quoit_export.precisions.encoding import MICROSOFT, Author, Rows
from quoit_export.precisions.int8 import ALL_ROWS, Int8Encoding, quantize_outputs
from quoit_export.quantize.quant_error import UNEVEN, peak_ratios
from quoit_export.quantize.second_pass import Unevenness, lowest, rank, with_all_rows
from quoit_export.verify.layerwise import separate_products

Values = NDArray[np.float32]
INPUTS, OUTPUTS = 96, 40
LIMIT = 0.5
WEIGHT = np.random.default_rng(0).standard_normal((OUTPUTS, INPUTS)).astype(np.float32)
ENCODINGS = {
    "none": Int8Encoding(),
    "some": Int8Encoding(second_pass={"a": LIMIT}, narrow_second_pass={"a": LIMIT}),
    "all": Int8Encoding(second_pass={"a": ALL_ROWS}, narrow_second_pass={"a": ALL_ROWS}),
}


def product(encoding: Int8Encoding, x: Values) -> Values:
    """A linear layer of rows that have a scale of 3 each, in onnxruntime."""
    author = Author(lambda _: WEIGHT)
    given, tokens = ir.val("x", ir.DataType.FLOAT, ["T", INPUTS]), ir.val("tokens", ir.DataType.INT64, ["T"])
    scale = ir.val("scale", ir.DataType.FLOAT, ["T", 1])
    rows = encoding.prepare(author, Rows(given, scale), tokens, ["a"])
    made = encoding.linear(author, rows, "a", WEIGHT.shape)
    assert made.scale is not None
    result = author.op("Mul", made.values, made.scale)
    result.type = ir.TensorType(ir.DataType.FLOAT)
    tape, opsets = author.tape, {"": OPSET, MICROSOFT: 1}
    graph = ir.Graph(
        [given, scale, tokens],
        [result],
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports=opsets,
        name="g",
    )
    separate_products(graph)  # for CPUs whose sums of int8 products would saturate
    session = open_session(ir.to_proto(ir.Model(graph, ir_version=IR_VERSION)).SerializeToString(), config=exact_int8())
    feeds = {"x": x / 3, "scale": np.full((len(x), 1), 3, np.float32), "tokens": np.zeros(len(x), np.int64)}
    found: Values = session.run(None, feeds)[0]
    return found


def make_rows(massive: int) -> Values:
    """Twelve rows, of which the last ones have one value a thousand times larger than the others."""
    rows = np.random.default_rng(1).standard_normal((12, INPUTS)).astype(np.float32)
    rows[len(rows) - massive :, 7] = 1000
    return rows


def errors(found: Values, x: Values) -> NDArray[np.float64]:
    """The error of each row relative to the share of the other values, with the weights that int8 has."""
    integers, scale = quantize_outputs(WEIGHT)
    exact = x.astype(np.float64) @ (integers * scale[:, None]).T.astype(np.float64)
    found_errors: NDArray[np.float64] = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
    return found_errors


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("massive", [0, 1, 5, 12])
def test_uneven_rows_gain_digits_and_others_stay_as_they_are(massive: int, narrow: bool) -> None:
    x = make_rows(massive)
    none, some, every = (product(encoding.narrowed() if narrow else encoding, x) for encoding in ENCODINGS.values())
    even = np.arange(len(x)) < len(x) - massive
    np.testing.assert_array_equal(none[even], some[even])
    np.testing.assert_allclose(some[~even], every[~even], rtol=1e-6, atol=1e-3)
    gain = errors(none, x) / errors(every, x)
    assert (gain > (20 if narrow else 80)).all()


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", ENCODINGS)
def test_a_row_has_the_same_bits_alone_and_among_others(name: str, narrow: bool) -> None:
    encoding = ENCODINGS[name].narrowed() if narrow else ENCODINGS[name]
    x = make_rows(5)
    together = product(encoding, x)
    for row in range(len(x)):
        np.testing.assert_array_equal(product(encoding, x[row : row + 1])[0], together[row])
    np.testing.assert_array_equal(product(encoding, x[::-1].copy())[::-1], together)


def test_a_row_takes_it_above_the_threshold_and_not_at_it() -> None:
    """Rows of two equal values and zeros: the largest is 1 / sqrt(2) of the length, whatever their size."""
    x = np.zeros((3, INPUTS), np.float32)
    x[0, :2], x[1, [0, 5]], x[2, 0] = 1, 300, 1
    x[:2, 9] = 1e-4
    below, above = (
        product(Int8Encoding(second_pass={"a": limit}), x) for limit in (np.sqrt(0.5) - 1e-4, np.sqrt(0.5) + 1e-4)
    )
    once = product(Int8Encoding(), x)
    np.testing.assert_array_equal(above[:2], once[:2])
    assert (below[0] != once[0]).any()


def test_rows_of_zeros_and_of_no_rows_are_fine() -> None:
    for encoding in ENCODINGS.values():
        assert not product(encoding, np.zeros((2, INPUTS), np.float32)).any()
        assert product(encoding, np.zeros((0, INPUTS), np.float32)).shape == (0, OUTPUTS)


def test_the_unevenness_of_a_row_is_its_peak() -> None:
    rows = np.zeros((4, 100), np.float32)
    rows[1], rows[2, 3], rows[3, :4] = 2, 5, -7
    np.testing.assert_allclose(peak_ratios(rows), [0, 1, 10, 5], rtol=1e-6)
    assert np.sqrt(576) > UNEVEN, "a single value of the narrowest decoder is uneven"


def test_what_gains_most_for_its_cost_comes_first() -> None:
    """Within a budget, and for what is not spent, the next that fits."""
    ratios = {name: np.array([0.1, 0.9], np.float32) for name in "abcd"}
    uneven = Unevenness(ratios, {"a": 0.4, "b": 0.1, "c": 0.1, "d": 0.4})
    gains = {"a": 6.0, "b": 2.0, "c": 0.5, "d": -1.0}
    base = {"b": 0.5}

    def attempt(settings: object) -> list[NDArray[np.float64]]:
        assert isinstance(settings, list)
        found = [sum(gains[name] for name, limit in one.items() if limit == ALL_ROWS) for one in settings]
        return [np.array([10.0 - gain, 0.0]) for gain in found]

    ranked = rank(base, uneven, attempt)
    assert ranked == ["b", "a", "c"], "what gains nothing is left out"
    assert with_all_rows(base, ranked, uneven, 0.0) == base
    assert with_all_rows(base, ranked, uneven, 0.05) == {"b": ALL_ROWS}, "half of its rows took it before"
    assert with_all_rows(base, ranked, uneven, 0.2) == {"b": ALL_ROWS, "c": ALL_ROWS}
    assert with_all_rows(base, ranked, uneven, 0.5) == {"b": ALL_ROWS, "a": ALL_ROWS}
    assert uneven.cost({"a": ALL_ROWS, "b": 0.5, "c": 0.95}) == pytest.approx(0.45)


def test_of_two_thresholds_the_lower_one_holds() -> None:
    assert lowest({"a": ALL_ROWS, "b": 0.5}, {"a": 0.3, "b": 0.2, "c": 0.4}) == {"a": ALL_ROWS, "b": 0.2, "c": 0.4}
