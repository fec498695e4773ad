"""Four-bit blocks: what is stored is what MatMulNBits multiplies by, and close to the weight."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from quoit_export.precisions.blocks import BLOCK, CANDIDATES, pack_blocks, restore_blocks, round_blocks


def random_weight(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """Rows of very different size."""
    generator = np.random.default_rng(seed)
    rows = 10.0 ** generator.uniform(-4, 3, (shape[0], 1))
    return (generator.standard_normal(shape) * rows).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 32), (3, 64), (40, 320), (7, 40), (5, 3)])
def test_onnxruntime_multiplies_by_what_is_restored(shape: tuple[int, int]) -> None:
    """Unit rows give the weight's columns; level 1 keeps them in float32."""
    weight = random_weight(shape)
    packed, scales = pack_blocks(weight)
    outputs, inputs = shape
    blocks = -(-inputs // BLOCK)
    assert packed.shape == (outputs, blocks, BLOCK // 2)
    assert scales.shape == (outputs, blocks)
    node = onnx.helper.make_node(
        "MatMulNBits",
        ["x", "w", "s"],
        ["y"],
        domain="com.microsoft",
        K=inputs,
        N=outputs,
        bits=4,
        block_size=BLOCK,
        accuracy_level=1,
    )
    graph = onnx.helper.make_graph(
        [node],
        "blocks",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, inputs])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, outputs])],
        [onnx.numpy_helper.from_array(packed, "w"), onnx.numpy_helper.from_array(scales, "s")],
    )
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.eye(inputs, dtype=np.float32)})
    np.testing.assert_allclose(found.T, restore_blocks(weight), rtol=1e-6)


def test_numbers_have_four_bits_and_zeros_stay_zero() -> None:
    weight = random_weight((20, 128))
    weight[4] = 0
    weight[5, 32:64] = 0
    integers, scales = round_blocks(weight)
    assert integers.min() >= -8
    assert integers.max() <= 7
    assert np.isfinite(scales).all()
    restored = restore_blocks(weight)
    assert not restored[4].any()
    assert not restored[5, 32:64].any()


def test_more_candidates_err_less_and_none_errs_much() -> None:
    """Of normal values the usual scale loses 0.72 % of the energy."""
    weight = np.random.default_rng(0).standard_normal((256, 1024)).astype(np.float32)
    errors = [np.mean((restore_blocks(weight, some) - weight) ** 2) for some in (CANDIDATES, CANDIDATES[:1])]
    assert errors[0] < 0.0068
    assert errors[0] < 0.95 * errors[1]


def test_an_output_does_not_see_the_others_and_the_stored_dtype_does_not_matter() -> None:
    weight = random_weight((16, 64)).astype(ml_dtypes.bfloat16)
    packed, scales = pack_blocks(weight)
    alone, scale = pack_blocks(weight[5:6].astype(np.float32))
    np.testing.assert_array_equal(alone[0], packed[5])
    np.testing.assert_array_equal(scale[0], scales[5])
