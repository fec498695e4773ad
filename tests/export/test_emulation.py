"""A half-precision graph on a CPU: every result is rounded, and what is beyond the type's range is infinite."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from quoit import Embedder
from quoit.artifact import Artifact, Precision
from quoit.ort.module import onnxruntime
from quoit_export.graph.emulation import emulate
from quoit_export.verify.parity import parity_texts

HALVES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


def chain(dtype: ir.DataType, weight: NDArray[np.float32]) -> ir.Graph:
    """(x W * x W) W of float32 x, in a half precision, with a float32 sum behind it."""
    tape = Tape()
    x = ir.val("x", ir.DataType.FLOAT, ["T", len(weight)])
    stored = tape.initializer(ir.tensor(weight.astype(dtype.numpy()), name="weight"))
    rounded = tape.op("Cast", [x], {"to": dtype})
    first = tape.op("MatMul", [rounded, stored])
    last = tape.op("MatMul", [tape.op("Mul", [first, first]), stored])
    wide = tape.op("Cast", [last], {"to": ir.DataType.FLOAT})
    y = tape.op("Add", [wide, x])
    y.name, y.shape, y.dtype = "y", ir.Shape(["T", len(weight)]), ir.DataType.FLOAT
    return ir.Graph([x], [y], nodes=tape.nodes, initializers=tape.initializers, opset_imports={"": 20}, name="chain")


def run(graph: ir.Graph, x: NDArray[np.float32]) -> NDArray[np.float32]:
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session: Any = onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("dtype", HALVES.values())
@pytest.mark.parametrize("factor", [1e-3, 1.0, 60.0, 1e4])
def test_every_result_is_rounded(dtype: ir.DataType, factor: float) -> None:
    """As numpy rounds it. A column has one weight that is not zero, so that no order of sums matters."""
    generator = np.random.default_rng(0)
    weight = np.diag(generator.standard_normal(16)).astype(np.float32)
    x = (factor * generator.standard_normal((5, 16))).astype(np.float32)

    def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            found: NDArray[np.float32] = values.astype(dtype.numpy()).astype(np.float32)
        return found

    with np.errstate(invalid="ignore"):
        first = rounded(rounded(x) * rounded(np.diag(weight)))
        expected = rounded(rounded(first * first) * rounded(np.diag(weight))) + x
    graph = chain(dtype, weight)
    emulate(graph, dtype)
    found = run(graph, x)
    finite = np.isfinite(expected).all(axis=1)
    np.testing.assert_array_equal(found[finite], expected[finite])
    assert not np.isfinite(found[~finite]).all(axis=1).any()
    assert finite.all() == (dtype == ir.DataType.BFLOAT16 or factor < 1e3)


def test_the_provider_itself_hides_what_float16_cannot_hold() -> None:
    """Which is why graphs are emulated: it computes float16 nodes in float32 and rounds nothing in between."""
    weight, x = np.eye(4, dtype=np.float32) * 2.0**-6, np.full((1, 4), 2.0**15, np.float32)
    plain, emulated = (chain(HALVES["fp16"], weight) for _ in range(2))
    emulate(emulated, HALVES["fp16"])
    assert not np.isfinite(run(emulated, x)).any(), "the product is 2^18"
    assert np.isfinite(run(plain, x)).all()


@pytest.mark.parametrize("precision", HALVES)
def test_a_text_does_not_see_its_batch(half_artifact: Artifact, precision: Precision) -> None:
    embedder = Embedder(half_artifact, precision=precision, provider="cpu")
    texts = parity_texts()[:24]
    together = embedder.encode(texts)
    np.testing.assert_array_equal(together, np.stack([embedder.encode(text) for text in texts]))


def test_rounding_to_bfloat16_is_what_torch_computes(half_artifact: Artifact, byte_checkpoint_folder: Path) -> None:
    """Both are about as far from float32, and closer to each other than that allows for."""
    import torch
    from transformers import Qwen3Model

    model: Any = Qwen3Model.from_pretrained(byte_checkpoint_folder, dtype=torch.bfloat16)
    model.eval()
    embedder, exact = (Embedder(half_artifact, precision=name, provider="cpu") for name in ("bf16", "fp32"))
    texts = parity_texts()[:24]
    rows = embedder.pipeline.tokenizer.encode(texts).ids
    with torch.inference_mode():
        states = [model(input_ids=torch.tensor(row.tolist())[None]).last_hidden_state[0, -1].float() for row in rows]
    theirs = torch.nn.functional.normalize(torch.stack(states)).numpy()
    ours, reference = embedder.encode(texts), exact.encode(texts)
    distances = [1 - float((vectors * reference).sum(axis=1).mean()) for vectors in (ours, theirs)]
    assert distances[0] < 2 * distances[1]
    assert distances[1] < 2 * distances[0]
