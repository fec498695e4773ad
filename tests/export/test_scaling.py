"""Powers of two keep float16 finite, change nothing in float32, and are as small as can be."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from architectures import architecture_of
from bench.studies.adversaries import OVERFLOWING, write_adversary
from quoit import Embedder
from quoit.artifact import Artifact, Calibration, Scaling
from quoit.engine.layouts.packed import make_inputs
from quoit.engine.limits import CPU_LIMITS
from quoit.engine.planner import plan_batches
from quoit.ort.module import onnxruntime
from quoit.ort.sessions import ONNX_NAMES
from quoit.text.tokenizer import Ids
from quoit_export.build.staging import GRAPH, Staging, bare_manifest, variant_model
from quoit_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from quoit_export.export import Request, publish
from quoit_export.precisions.table import PRECISIONS
from quoit_export.quantize.calibration import CalibrationTexts, Observed, built_in_texts, calibration_rows, observe
from quoit_export.quantize.scaling import FLOAT16_MAX, HEADROOM, Scaled, choose_scaling, exponent
from quoit_export.verify import layerwise
from quoit_export.verify.overflow import first_nonfinite
from quoit_export.verify.parity import held_out, load_variant, parity_rows

MODEL = Path(__file__).parents[2] / "models" / "quoit-embedding-9m"
CALIBRATION = Calibration("none", "0" * 64, 1, 1)


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """A checkpoint whose values are beyond float16."""
    return cache(
        lambda name: open_checkpoint(str(write_adversary(MODEL, tmp_path_factory.mktemp("over") / "model", name)))
    )


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, overflowing: Callable[[str], Checkpoint]
) -> Callable[[str], Artifact]:
    """Its artifact, which the gate let pass."""
    return cache(
        lambda name: publish(
            overflowing(name), Request(tmp_path_factory.mktemp("artifact") / "out", ("fp32", "fp16", "bf16"))
        )
    )


def states(checkpoint: Checkpoint, rows: list[Ids], scaled: Scaled | None = None) -> NDArray[np.float32]:
    """The float32 graph's answers."""
    model = ir.to_proto(variant_model(checkpoint, "fp32", scaled)).SerializeToString()
    session: Any = onnxruntime().InferenceSession(model, providers=[ONNX_NAMES["cpu"]])
    found = [session.run(None, make_inputs(batch))[0] for row in rows for batch in plan_batches([row], CPU_LIMITS)]
    return np.concatenate(found)


@pytest.mark.parametrize("stream", [0, 1, 5, 13])
@pytest.mark.parametrize("products", [(0, 0), (3, 0), (7, 11)])
def test_float32_gives_the_same_bits_whatever_the_exponents(
    byte_checkpoint_folder: Path, stream: int, products: tuple[int, ...]
) -> None:
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    rows = [np.array(ids, np.uint32) for ids in ([5], [1, 2, 3, 200], list(range(250)))]
    scaled = Scaled(Scaling(stream, products, 1.0, 1.0, CALIBRATION), checkpoint.architecture)
    np.testing.assert_array_equal(states(checkpoint, rows, scaled), states(checkpoint, rows))


def test_tensors_are_multiplied_by_powers_of_two_and_no_others_are_touched(byte_checkpoint_folder: Path) -> None:
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    read = checkpoint.tensor
    scaled = Scaled(Scaling(3, (2, 5), 1.0, 1.0, CALIBRATION), checkpoint.architecture).reader(read)
    for name, power in {
        "embed_tokens.weight": -3,
        "layers.0.self_attn.o_proj.weight": -3,
        "layers.0.mlp.up_proj.weight": -2,
        "layers.0.mlp.down_proj.weight": 2 - 3,
        "layers.1.mlp.up_proj.weight": -5,
        "layers.1.mlp.down_proj.weight": 5 - 3,
        "layers.1.mlp.gate_proj.weight": 0,
        "layers.1.self_attn.v_proj.weight": 0,
        "layers.1.input_layernorm.weight": 0,
        "norm.weight": 0,
    }.items():
        np.testing.assert_array_equal(scaled(name).astype(np.float32), read(name).astype(np.float32) * 2.0**power)


@pytest.mark.parametrize("peak", [0.0, 1e-3, 1.0, FLOAT16_MAX / HEADROOM, FLOAT16_MAX, 1e6, 3.2e9])
def test_an_exponent_is_the_smallest_that_leaves_headroom(peak: float) -> None:
    found = exponent(peak)
    assert peak * 2.0**-found * HEADROOM <= FLOAT16_MAX
    assert found == 0 or peak * 2.0 ** (1 - found) * HEADROOM > FLOAT16_MAX


def test_an_ordinary_model_is_left_as_it_is(half_artifact: Artifact) -> None:
    record = half_artifact.manifest.variants["fp16"].scaling
    assert record is not None
    assert record.stream == 0
    assert record.products == (0, 0)
    assert record.describe().startswith("nothing scaled: magnitudes up to ")


def plain_graph(checkpoint: Checkpoint, folder: Path) -> ir.Model:
    """fp16 without powers of two, and without any gate."""
    Staging.open(folder, checkpoint, bare_manifest(checkpoint)).write_variant(checkpoint, "fp16")
    return ir.load(folder / "fp16" / GRAPH)


@pytest.mark.parametrize("name", OVERFLOWING)
def test_plain_fp16_is_not_finite_and_scaled_fp16_is_as_close_as_ever(
    exported: Callable[[str], Artifact], overflowing: Callable[[str], Checkpoint], tmp_path: Path, name: str
) -> None:
    artifact = exported(name)
    rows = parity_rows(artifact, held_out())
    assert first_nonfinite(plain_graph(overflowing(name), tmp_path / "plain"), rows) is not None
    for precision in ("fp16", "bf16"):
        variant = artifact.manifest.variants[precision]
        assert variant.accepted
        assert variant.parity[0].minimum >= PRECISIONS[precision].floors["cosine"]
    record = artifact.manifest.variants["fp16"].scaling
    assert record is not None
    assert bool(record.stream) == (name == "towering")
    assert bool(max(record.products)) == (name == "bursting")
    assert "stream times 2^-" in record.describe()


def test_only_texts_with_one_word_overflow_plain_fp16(
    overflowing: Callable[[str], Checkpoint], exported: Callable[[str], Artifact], tmp_path: Path
) -> None:
    """As the 8B checkpoint does on texts that begin with `import`: most texts would never tell."""
    tokenizer = Embedder(exported("bursting"), precision="fp16", provider="cpu").pipeline.tokenizer
    with_word, without = ([row] for row in tokenizer.encode(["a train, a boat", "a train and a boat"]).ids)
    for number, (rows, block) in enumerate([(without, None), (with_word, "layers.0.mlp")]):
        assert first_nonfinite(plain_graph(overflowing("bursting"), tmp_path / str(number)), rows) == block


def test_what_stays_of_the_values_is_of_full_precision(exported: Callable[[str], Artifact]) -> None:
    """No exponent is larger than it has to be: the scaled stream's largest values stay near float16's largest."""
    record = exported("towering").manifest.variants["fp16"].scaling
    assert record is not None
    assert FLOAT16_MAX / HEADROOM / 2 < record.stream_peak * 2.0**-record.stream <= FLOAT16_MAX / HEADROOM


def test_other_calibration_texts_make_fp16_anew(byte_checkpoint_folder: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    request = Request(tmp_path / "out", ("fp16",))
    first = publish(checkpoint, request)
    assert publish(checkpoint, request).manifest == first.manifest
    texts = CalibrationTexts("mine", built_in_texts().texts[:8])
    second = publish(checkpoint, replace(request, calibration=texts)).manifest.variants["fp16"].scaling
    assert second is not None
    assert (second.calibration.source, second.calibration.texts) == ("mine", 8)


def test_the_stream_and_the_products_are_what_calibration_saw(
    byte_artifact: Artifact, byte_checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peaks cover the token table, every sum, and every linear layer's own result, in however many layerwise."""
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    rows = calibration_rows(byte_artifact, built_in_texts())[:4]
    whole, _ = observe(load_variant(byte_artifact, "fp32"), checkpoint.architecture, rows)
    monkeypatch.setattr(layerwise, "PIECE_BYTES", 1)
    found, _ = observe(load_variant(byte_artifact, "fp32"), checkpoint.architecture, rows)
    assert found.outputs == whole.outputs
    layers = range(architecture_of(byte_artifact).attention.num_hidden_layers)
    names = {f"residual.layers.{layer}.{block}" for layer in layers for block in ("self_attn", "mlp")}
    assert names <= set(found.outputs)
    largest = {name: peak * 1e5 for name, peak in found.outputs.items()}
    scaling = choose_scaling(
        Observed(checkpoint.tensor, checkpoint.architecture, replace(found, outputs=largest), CALIBRATION)
    )
    assert scaling.stream_peak == max(
        peak for name, peak in largest.items() if name.startswith("residual.") or name.endswith(("o_proj", "down_proj"))
    )
    assert scaling.product_peak == max(peak for name, peak in largest.items() if name.endswith("up_proj"))
    assert scaling.stream == exponent(scaling.stream_peak) > 0
    assert msgspec.convert(msgspec.to_builtins(scaling), Scaling) == scaling
