"""Int8 on CPUs that add pairs of products in 16 bits, which saturate: its other graph never comes so far.

`vpmaddubsw` multiplies uint8 by int8 and adds neighbours in int16. Its saturation is emulated on what the graphs really
multiply, since the hardware may not be at hand.
"""

import shutil
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from architectures import architecture_of
from quoit.artifact import Artifact, GraphName
from quoit.engine.layouts.packed import make_inputs
from quoit.engine.limits import CPU_LIMITS
from quoit.engine.planner import plan_batches
from quoit.ort.probe import int8_is_exact
from quoit_export.precisions.int8 import INTEGER_PRODUCT
from quoit_export.verify.layerwise import run
from quoit_export.verify.parity import held_out, load_variant, parity_rows

TEXTS = 6
Product = tuple[NDArray[np.uint8], NDArray[np.int8]]


def products(artifact: Artifact, graph: GraphName) -> list[Product]:
    """Every pair of activations [T, in] and weights [in, out] that a graph multiplies on some texts."""
    model = load_variant(artifact, "int8", graph)
    weights: dict[str, list[NDArray[np.int8]]] = {}
    for node in model.graph:
        if node.op_type == INTEGER_PRODUCT:
            left, right = node.inputs[0], node.inputs[1]
            assert left is not None
            assert right is not None
            assert right.const_value is not None
            if str(left.name) not in weights:
                left.type = ir.TensorType(ir.DataType.UINT8)
                model.graph.outputs.append(left)
            weights.setdefault(str(left.name), []).append(right.const_value.numpy())
    feeds = [make_inputs(batch) for batch in plan_batches(parity_rows(artifact, held_out())[:TEXTS], CPU_LIMITS)]
    outputs: list[dict[str, NDArray[Any]]] = [found for _, found in run(model, feeds, "products")]
    return [(found[name], weight) for found in outputs for name in weights for weight in weights[name]]


def pair_sums(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """The sums of neighbouring products [T, in / 2, out]."""
    left, right = activations.astype(np.int32), weights.astype(np.int32)
    found: NDArray[np.int32] = left[:, 0::2, None] * right[None, 0::2] + left[:, 1::2, None] * right[None, 1::2]
    return found


def saturates(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> bool:
    """Whether a sum of neighbours leaves int16, so that the total is wrong."""
    sums = pair_sums(activations, weights)
    return bool((np.clip(sums, -(2**15), 2**15 - 1).sum(axis=1) != sums.sum(axis=1)).any())


@pytest.fixture(scope="module")
def artifact(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The artifact in files of its own: tensors are not read from files that have several names."""
    folder = tmp_path_factory.mktemp("copy") / "artifact"
    shutil.copytree(artifact.folder, folder, ignore=shutil.ignore_patterns("fp32", "fp16"))
    return Artifact(folder, artifact.manifest)


@pytest.mark.skipif(not int8_is_exact(), reason="this CPU saturates int8 sums")
def test_emulated_sums_saturate_in_the_one_graph_and_not_in_the_other(artifact: Artifact) -> None:
    exact, narrow = products(artifact, "cpu"), products(artifact, "saturating")
    assert len(exact) == len(narrow)
    assert any(saturates(*one) for one in exact)
    assert not any(saturates(*one) for one in narrow)
    assert max(int(activations.max()) for activations, _ in narrow) <= 127
    assert max(int(activations.max()) for activations, _ in exact) > 200


def test_the_largest_pair_of_7_bits_fits() -> None:
    ends = np.full((1, 2), 127, np.uint8), np.full((2, 1), 127, np.int8)
    assert not saturates(*ends)
    assert saturates(ends[0] + np.uint8(3), ends[1])


def test_both_graphs_share_their_weights(artifact: Artifact) -> None:
    graphs = [load_variant(artifact, "int8", name).graph.initializers for name in ("cpu", "saturating")]
    shared = 0
    for name, value in graphs[1].items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            other = graphs[0][name].const_value
            assert isinstance(other, ir.ExternalTensor)
            assert (tensor.offset, tensor.length) == (other.offset, other.length)
            shared += 1
    assert shared >= 7 * architecture_of(artifact).attention.num_hidden_layers
