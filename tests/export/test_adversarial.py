"""Int8 keeps its meaning on checkpoints that are made to break it.

All are made of the genuine small model. The rescaled ones compute the same function in float32, and plain int8 falls
below the floor on them; that of `quoit-export` must not.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from architectures import architecture_of
from bench.studies.adversaries import ADVERSARIES, MASSIVE_WORD, write_adversary
from quoit import Embedder
from quoit.artifact import SNIPPETS, Artifact, Parity
from quoit.text.tokenizer import TextTokenizer
from quoit_export.build.staging import Staging, bare_manifest
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish
from quoit_export.precisions.table import PRECISIONS
from quoit_export.quantize.calibration import observe
from quoit_export.quantize.methods import Method, fold
from quoit_export.quantize.quant_search import Plan
from quoit_export.verify.parity import Comparison, compare, held_out, load_variant

MODEL = Path(__file__).parents[2] / "models" / "quoit-embedding-9m"
RESCALED = [name for name in ADVERSARIES if " " in name]
MEAN, LEAST = 0.995, 0.985

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """An adversary's checkpoint. Read-only."""
    return cache(lambda name: write_adversary(MODEL, tmp_path_factory.mktemp("adversary") / "model", name))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, folder: Folder) -> Callable[[str], Artifact]:
    """An adversary's artifact, whatever its parity."""

    def export(name: str) -> Artifact:
        request = Request(tmp_path_factory.mktemp("artifact") / "out", ("fp32", "int8"), keep_rejected=True)
        return publish(open_checkpoint(str(folder(name))), request)

    return cache(export)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("genuine") / "out"
    return publish(open_checkpoint(str(MODEL)), Request(out, ("fp32", "int8")))


def vectors(artifact: Artifact) -> NDArray[np.float32]:
    found: NDArray[np.float32] = Embedder(artifact, precision="fp32", provider="cpu").encode(held_out().texts)
    return found


def plain_int8(checkpoint_folder: Path, artifact: Artifact, folder: Path) -> Parity:
    """The cosine to fp32 of the int8 variant that nothing was folded into."""
    checkpoint = open_checkpoint(str(checkpoint_folder))
    bare = bare_manifest(checkpoint)
    staging = Staging.open(folder, checkpoint, bare)
    staging.write_variant(checkpoint, "int8")
    session = onnx_session(folder / "int8" / "model.onnx")
    rows = TextTokenizer.load(checkpoint.tokenizer_file, bare).encode(held_out().texts).ids
    states = np.concatenate([session(row) for row in rows])
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    return compare(unit, vectors(artifact), Comparison("int8", "embedding"))[0]


def onnx_session(graph: Path) -> Callable[[NDArray[np.uint32]], NDArray[np.float32]]:
    """A graph that was never measured, run on a row of ids."""
    import onnxruntime

    from quoit.engine.layouts.packed import make_inputs
    from quoit.engine.limits import CPU_LIMITS
    from quoit.engine.planner import plan_batches

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def run(row: NDArray[np.uint32]) -> NDArray[np.float32]:
        (batch,) = plan_batches([row], CPU_LIMITS)
        found: NDArray[np.float32] = session.run(None, make_inputs(batch))[0]
        return found

    return run


def cosines(artifact: Artifact) -> dict[str, Parity]:
    """The measured cosines of int8 by their texts."""
    variant = artifact.manifest.variants["int8"]
    return {parity.texts: parity for parity in variant.parity if parity.measure == "cosine" and parity.graph == "cpu"}


def test_the_floors_of_int8_are_these() -> None:
    assert (PRECISIONS["int8"].mean_floors["cosine"], PRECISIONS["int8"].floors["cosine"]) == (MEAN, LEAST)


def test_the_genuine_model_is_far_above_its_floor(genuine: Artifact) -> None:
    for texts, parity in cosines(genuine).items():
        assert parity.mean >= (0.999 if texts == SNIPPETS else 0.9995)
        assert parity.minimum >= (0.996 if texts == SNIPPETS else 0.997)


@pytest.mark.parametrize("name", ADVERSARIES)
def test_int8_holds_on_every_adversary(exported: Callable[[str], Artifact], name: str) -> None:
    found = cosines(exported(name))
    assert set(found) == {"held-out", "calibration", "snippet"}
    for parity in found.values():
        assert parity.mean >= MEAN, parity
        assert parity.minimum >= LEAST, parity
    assert exported(name).accepted() == ["fp32", "int8"]


@pytest.mark.parametrize("name", RESCALED)
def test_a_rescaling_changes_nothing_in_fp32_and_breaks_plain_int8(
    exported: Callable[[str], Artifact], folder: Folder, genuine: Artifact, tmp_path: Path, name: str
) -> None:
    artifact = exported(name)
    same = np.sum(vectors(artifact) * vectors(genuine), axis=1)
    assert same.min() > 0.999999
    plain = plain_int8(folder(name), artifact, tmp_path / "plain")
    assert 1 - plain.mean > 10 * (1 - cosines(genuine)["held-out"].mean)
    if "products" not in name:  # there it is far from fp32 too, and not below the floor
        assert not plain.passes
        assert plain.minimum < 0.9


@pytest.mark.parametrize("name", RESCALED)
def test_a_rescaling_costs_nothing(exported: Callable[[str], Artifact], genuine: Artifact, name: str) -> None:
    """What is chosen errs as it does on the genuine model, and hardly more than what is chosen there."""
    found, expected = (each.manifest.variants["int8"].quantization for each in (exported(name), genuine))
    assert found is not None
    assert expected is not None
    assert found.errors[found.method] == pytest.approx(expected.errors[found.method], rel=0.02)
    assert found.errors[found.method] < 1.1 * expected.errors[expected.method]
    for texts, parity in cosines(exported(name)).items():
        assert parity.mean > cosines(genuine)[texts].mean - 5e-5
        assert parity.mean == pytest.approx(cosines(genuine)[texts].mean, abs=1e-4)


def test_a_massive_activation_is_one(exported: Callable[[str], Artifact]) -> None:
    """Several thousand in one channel of down_proj's input at one token, and a tenth of that without it."""
    artifact = exported("massive")
    manifest = artifact.manifest
    tokenizer = TextTokenizer.load(artifact.path(manifest.tokenizer), manifest)
    with_word, without = tokenizer.encode([f"a train{MASSIVE_WORD} a boat", "a train and a boat"]).ids
    largest = [
        observe(load_variant(artifact, "fp32"), architecture_of(artifact), [row])[0].largest["layers.0.mlp.down_proj"]
        for row in (with_word, without)
    ]
    assert largest[0].max() > 2000
    assert largest[1].max() < largest[0].max() / 10


def test_layers_that_nothing_makes_good_are_kept_in_float32(exported: Callable[[str], Artifact]) -> None:
    """And only those; int8 is then close, and not much larger."""
    artifact = exported("cancelling")
    record = artifact.manifest.variants["int8"].quantization
    assert record is not None
    assert record.float32_layers == tuple(f"layers.{layer}.mlp.down_proj" for layer in range(4))
    assert cosines(artifact)["held-out"].mean > 0.9995


def test_a_token_table_that_rotation_would_drown_is_not_rotated(
    exported: Callable[[str], Artifact], folder: Folder, tmp_path: Path
) -> None:
    """What was measured at export decides; a rotation below the floor is given up for what is left."""
    artifact = exported("outlier")
    record = artifact.manifest.variants["int8"].quantization
    assert record is not None
    assert not record.method.startswith("rotate")
    checkpoint = open_checkpoint(str(folder("outlier")))
    bare = bare_manifest(checkpoint)
    rows = TextTokenizer.load(checkpoint.tokenizer_file, bare).encode(held_out().texts).ids
    activations = observe(load_variant(artifact, "fp32"), architecture_of(artifact), rows)[0]
    architecture = checkpoint.architecture
    rotated = fold(checkpoint.tensor, architecture, activations, Method(0.5, rotated=True), architecture.input)
    staging = Staging.open(tmp_path / "rotated", checkpoint, bare)
    staging.write_variant(checkpoint, "int8", Plan(rotated, record))
    session = onnx_session(tmp_path / "rotated" / "int8" / "model.onnx")
    states = np.concatenate([session(row) for row in rows])
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    parity = compare(unit, vectors(artifact), Comparison("int8", "embedding"))[0]
    assert parity.mean < cosines(artifact)["held-out"].mean
