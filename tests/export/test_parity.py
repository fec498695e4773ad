"""The measure of a variant: fixed texts, cosine similarity, and a floor that damage does not pass."""

import shutil
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import onnx
import pytest

from quoit.artifact import Artifact, Parity, Precision, read_artifact, record_file, write_manifest
from quoit_export.checkpoint import Checkpoint
from quoit_export.errors import ParityError
from quoit_export.parity import (
    FLOORS,
    compare,
    parity_texts,
    passes,
    transformers_vectors,
    variant_vectors,
)
from support import Embedders, Vectors

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def reference(embedders: Embedders) -> Vectors:
    vectors: Vectors = embedders("fp32").encode(parity_texts())
    return vectors


def damage(artifact: Artifact, precision: Precision, tensor: str, target: Path) -> Artifact:
    """A copy of an artifact in which one tensor of a variant went wrong before its file was hashed."""
    shutil.copytree(artifact.folder, target)
    model = onnx.load(str(target / precision / "model.onnx"), load_external_data=False)
    (found,) = [stored for stored in model.graph.initializer if stored.name == tensor]
    place = {entry.key: entry.value for entry in found.external_data}
    with (target / precision / place["location"]).open("r+b") as file:
        file.seek(int(place["offset"]))
        file.write(np.random.default_rng(0).bytes(int(place["length"])))
    manifest = artifact.manifest
    variant = manifest.variants[precision]
    files = tuple(record_file(target, target / record.path) for record in variant.files)
    variants = manifest.variants | {precision: msgspec.structs.replace(variant, files=files)}
    write_manifest(target, msgspec.structs.replace(manifest, variants=variants))
    return read_artifact(target)


def test_there_are_enough_texts_and_none_twice() -> None:
    texts = parity_texts()
    assert len(texts) >= 60
    assert len(set(texts)) == len(texts)
    assert all(text.strip() == text != "" for text in texts)


def test_the_texts_are_of_many_scripts() -> None:
    letters = "".join(parity_texts())
    for start, end in [
        ("а", "я"),
        ("α", "ω"),
        ("א", "ת"),
        ("ا", "ي"),
        ("अ", "ह"),
        ("ก", "ฮ"),
        ("가", "힣"),
        ("一", "龥"),
    ]:
        assert any(start <= letter <= end for letter in letters), f"no letter from {start} to {end}"


def test_the_texts_are_of_many_lengths(embedders: Embedders) -> None:
    lengths = [len(row) for row in embedders("fp32").pipeline.tokenizer.encode(parity_texts()).ids]
    assert min(lengths) == 2
    assert max(lengths) >= 30


def test_every_precision_has_a_floor() -> None:
    assert tuple(FLOORS) == PRECISIONS
    assert sorted(FLOORS.values(), reverse=True) == list(FLOORS.values())
    assert all(0.9 < floor < 1 for floor in FLOORS.values())


def test_compare_is_the_cosine_of_each_row() -> None:
    angles = np.array([0, 0.1, 0.2, np.pi / 2])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    reference = np.tile(np.array([[1, 0]], np.float32), (4, 1))
    parity = compare(vectors, reference, "somewhere", 0.5)
    assert parity.reference == "somewhere"
    assert parity.texts == 4
    assert parity.floor == 0.5
    assert parity.cosine_min == pytest.approx(0, abs=1e-6)
    assert parity.cosine_mean == pytest.approx(np.cos(angles).mean(), abs=1e-6)


def test_equal_vectors_have_cosine_one(reference: Vectors) -> None:
    parity = compare(reference, reference, "itself", 0.99999)
    assert parity.cosine_min == pytest.approx(1, abs=2e-7)
    assert passes(parity)


@pytest.mark.parametrize(
    ("least", "passed"), [(0.98, True), (0.981, True), (0.9799999, False), (-1.0, False), (float("nan"), False)]
)
def test_a_variant_passes_at_its_floor_and_above(least: float, passed: bool) -> None:
    assert passes(Parity("fp32", 68, 0.99, least, 0.98)) is passed


def test_one_bad_text_is_enough_to_fail(reference: Vectors) -> None:
    vectors = reference.copy()
    vectors[17] *= -1
    parity = compare(vectors, reference, "fp32", FLOORS["int8"])
    assert parity.cosine_mean > 0.95
    assert not passes(parity)


@pytest.mark.parametrize(("precision", "noise"), [("fp32", 0.01), ("fp16", 0.05), ("int8", 0.3)])
def test_noisy_vectors_are_below_the_floor(reference: Vectors, precision: Precision, noise: float) -> None:
    generator = np.random.default_rng(0)
    spread = noise / np.sqrt(reference.shape[1])
    noisy = (reference + spread * generator.standard_normal(reference.shape)).astype(np.float32)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    assert not passes(compare(noisy, reference, "fp32", FLOORS[precision]))


def test_the_artifacts_parity_is_what_measuring_it_again_gives(
    artifact: Artifact, checkpoint: Checkpoint, reference: Vectors
) -> None:
    variants = artifact.manifest.variants
    for precision in ("fp16", "int8"):
        measured = compare(variant_vectors(artifact, precision), reference, "fp32", FLOORS[precision])
        assert variants[precision].parity == (measured,)
    (verified,) = variants["fp32"].parity
    again = compare(reference, transformers_vectors(checkpoint, artifact), "transformers fp32", FLOORS["fp32"])
    assert verified.reference == again.reference
    assert verified.cosine_min == pytest.approx(again.cosine_min, abs=2e-7)


@pytest.mark.parametrize(
    ("precision", "tensor"),
    [("int8", "layers.1.self_attn.v_proj.weight_int8"), ("int8", "layers.0.mlp.down_proj.weight_int8")],
)
def test_a_damaged_variant_is_below_its_floor(
    tmp_path: Path, artifact: Artifact, reference: Vectors, precision: Precision, tensor: str
) -> None:
    damaged = damage(artifact, precision, tensor, tmp_path / "damaged")
    parity = compare(variant_vectors(damaged, precision), reference, "fp32", FLOORS[precision])
    assert not passes(parity)


def test_without_transformers_verification_says_what_to_install(
    artifact: Artifact, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", cast("Any", None))
    with pytest.raises(ParityError, match=r"--verify needs torch and transformers .*quoit\[verify\]"):
        transformers_vectors(checkpoint, artifact)
