"""Artifacts that are damaged, forged, linked or read-only: what is not whole is refused by name, never used."""

import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from oracle import make_model, save_checkpoint
from quoit import Embedder
from quoit.artifact import MANIFEST, TOKENIZER, Artifact, Precision, read_artifact
from quoit.cli.main import main
from quoit.errors import ArtifactError, QuoitError
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish

TEXTS = ["a", "The capital of China is Beijing.", "", "中国的首都是北京。"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
FILES = {precision: (TOKENIZER, f"{precision}/model.onnx", f"{precision}/model.onnx.data") for precision in PRECISIONS}
CASES = [(precision, name) for precision, names in FILES.items() for name in names]
FLIPS = 12


@pytest.fixture
def copy(byte_artifact: Artifact, tmp_path: Path) -> Path:
    """A copy of the artifact, to be damaged."""
    shutil.copytree(byte_artifact.folder, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, byte_checkpoint_folder: Path) -> Path:
    """An artifact of another model with the same shapes and the same sizes of files."""
    folder = tmp_path_factory.mktemp("other")
    model = make_model(seed=1, vocab_size=512, num_hidden_layers=2, max_position_embeddings=2048)
    save_checkpoint(folder / "checkpoint", byte_checkpoint_folder / TOKENIZER, model)
    return publish(open_checkpoint(str(folder / "checkpoint")), Request(folder / "artifact", PRECISIONS)).folder


@pytest.fixture(scope="module")
def expected(byte_artifact: Artifact) -> dict[Precision, np.ndarray]:
    """The vectors of TEXTS."""
    return {precision: vectors(byte_artifact.folder, precision) for precision in PRECISIONS}


def vectors(folder: Path, precision: Precision) -> np.ndarray:
    found: np.ndarray = Embedder(folder, precision=precision, provider="cpu").encode(TEXTS)
    return found


def places(size: int) -> list[int]:
    """Lengths to cut a file to: nothing, almost nothing, a half, almost all."""
    return sorted({0, 1, size // 3, size // 2, size - 4096, size - 1} & set(range(size)))


@pytest.mark.parametrize(("precision", "name"), CASES)
def test_a_file_cut_short_is_refused_by_name(copy: Path, precision: Precision, name: str) -> None:
    content = (copy / name).read_bytes()
    for length in places(len(content)):
        (copy / name).write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=name):
            Embedder(copy, precision=precision)
    (copy / name).write_bytes(content + b"\0")
    with pytest.raises(ArtifactError, match=name):
        Embedder(copy, precision=precision)


@pytest.mark.parametrize(("precision", "name"), CASES)
def test_a_flipped_bit_is_refused_by_name(copy: Path, precision: Precision, name: str) -> None:
    content = (copy / name).read_bytes()
    generator = random.Random(f"{precision} {name}")
    for bit in [0, len(content) * 8 - 1, *(generator.randrange(len(content) * 8) for _ in range(FLIPS))]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (copy / name).write_bytes(flipped)
        with pytest.raises(ArtifactError, match=name):
            Embedder(copy, precision=precision)


@pytest.mark.parametrize(("precision", "name"), CASES)
def test_a_missing_file_and_a_folder_in_its_place_are_refused_by_name(
    copy: Path, precision: Precision, name: str
) -> None:
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        Embedder(copy, precision=precision)
    (copy / name).mkdir()
    with pytest.raises(ArtifactError, match=name):
        Embedder(copy, precision=precision)


def test_a_manifest_cut_short_is_refused_by_name(copy: Path) -> None:
    content = (copy / MANIFEST).read_bytes().rstrip()
    for length in range(0, len(content), 7):
        (copy / MANIFEST).write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=MANIFEST):
            Embedder(copy, precision="fp32")


def test_a_flipped_bit_in_the_manifest_is_refused_or_changes_no_vector(
    copy: Path, expected: dict[Precision, np.ndarray]
) -> None:
    """A query's prompt and the end token are in the manifest alone."""
    content = (copy / MANIFEST).read_bytes()
    queries = Embedder(copy, precision="fp32").encode_query(TEXTS)
    generator = random.Random(0)
    for bit in [generator.randrange(len(content) * 8) for _ in range(300)]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (copy / MANIFEST).write_bytes(flipped)
        try:
            embedder = Embedder(copy, precision="fp32")
        except ArtifactError:
            continue
        np.testing.assert_array_equal(embedder.encode(TEXTS), expected["fp32"])
        np.testing.assert_array_equal(embedder.encode_query(TEXTS), queries)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_another_models_tensors_are_refused_though_they_fit(
    copy: Path, other: Path, precision: Precision, name: str
) -> None:
    """The graph alone may be the same to the byte: then it is the same graph."""
    here, there = copy / precision / name, other / precision / name
    assert here.stat().st_size == there.stat().st_size
    if here.read_bytes() == there.read_bytes():
        assert name == "model.onnx"
        return
    shutil.copyfile(there, here)
    with pytest.raises(ArtifactError, match=name):
        Embedder(copy, precision=precision)


def test_another_models_manifest_is_refused(copy: Path, other: Path) -> None:
    shutil.copyfile(other / MANIFEST, copy / MANIFEST)
    for precision in PRECISIONS:
        with pytest.raises(ArtifactError, match="damaged"):
            Embedder(copy, precision=precision)


def test_another_models_tokenizer_is_refused(copy: Path, tokenizer_file: Path) -> None:
    shutil.copyfile(tokenizer_file, copy / TOKENIZER)
    with pytest.raises(ArtifactError, match=TOKENIZER):
        Embedder(copy, precision="fp32")


def test_another_precisions_files_are_refused(copy: Path) -> None:
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copyfile(copy / "int8" / name, copy / "fp32" / name)
    with pytest.raises(ArtifactError, match=r"fp32/model\.onnx"):
        Embedder(copy, precision="fp32")


def hub_snapshot(source: Path, cache: Path) -> Path:
    """The folder as huggingface_hub keeps one: blobs by their hash, and relative links to them."""
    snapshot = cache / "snapshots" / "0123abcd"
    (cache / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(file for file in source.rglob("*") if file.is_file())):
        blob = cache / "blobs" / f"{number:064x}"
        shutil.copyfile(file, blob)
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_artifact_in_the_hubs_cache_gives_the_same_bits(
    byte_artifact: Artifact, tmp_path: Path, expected: dict[Precision, np.ndarray], precision: Precision
) -> None:
    snapshot = hub_snapshot(byte_artifact.folder, tmp_path / "models--me--bytes")
    assert all(file.is_symlink() for file in snapshot.rglob("*") if not file.is_dir())
    np.testing.assert_array_equal(vectors(snapshot, precision), expected[precision])


def test_a_damaged_blob_of_the_hubs_cache_is_refused_by_name(byte_artifact: Artifact, tmp_path: Path) -> None:
    snapshot = hub_snapshot(byte_artifact.folder, tmp_path / "models--me--bytes")
    blob = (snapshot / "fp32" / "model.onnx.data").resolve()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"fp32/model\.onnx\.data"):
        Embedder(snapshot, precision="fp32")


def test_a_link_to_the_artifact_gives_the_same_bits(
    byte_artifact: Artifact, tmp_path: Path, expected: dict[Precision, np.ndarray]
) -> None:
    (tmp_path / "link").symlink_to(byte_artifact.folder)
    (tmp_path / "chain").symlink_to("link")
    for precision in PRECISIONS:
        np.testing.assert_array_equal(vectors(tmp_path / "chain", precision), expected[precision])


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ArtifactError, match="circle"):
        read_artifact(tmp_path / "circle")


def test_a_read_only_artifact_works(copy: Path, expected: dict[Precision, np.ndarray]) -> None:
    entries = [copy, *copy.rglob("*")]
    for entry in entries:
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    try:
        for precision in PRECISIONS:
            np.testing.assert_array_equal(vectors(copy, precision), expected[precision])
    finally:
        for entry in entries:
            entry.chmod(0o755)


@pytest.mark.parametrize("path", ["/etc/hostname", "../outside", "fp32/../../outside", "..\\outside", "", ".", "a\0b"])
def test_a_manifest_that_names_files_elsewhere_is_refused(copy: Path, path: str) -> None:
    (copy.parent / "outside").write_bytes((copy / TOKENIZER).read_bytes())
    text = (copy / MANIFEST).read_text()
    assert text.count(f'"{TOKENIZER}"') == 1
    escaped = path.replace("\\", "\\\\").replace("\0", "\\u0000")
    (copy / MANIFEST).write_text(text.replace(f'"{TOKENIZER}"', f'"{escaped}"'))
    with pytest.raises(ArtifactError):
        Embedder(copy, precision="fp32")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and /sys are Linux's")
@pytest.mark.parametrize("folder", ["/proc", "/sys", "/proc/self", "/dev/null", "/no/such/folder"])
@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".jsonl"])
def test_a_destination_that_cannot_be_written_is_one_line(
    byte_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, suffix: str
) -> None:
    (tmp_path / "texts.txt").write_text("a\nb\n")
    destination = f"{folder}/quoit-out{suffix}"
    code = main(["embed", str(tmp_path / "texts.txt"), "-o", destination, "-m", str(byte_artifact.folder)])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("quoit: ")
    assert folder in captured.err
    code = main(["similarity", "a", str(tmp_path / "texts.txt"), "-o", destination, "-m", str(byte_artifact.folder)])
    assert code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_an_artifact_is_not_published_where_nothing_can_be_written(byte_checkpoint_folder: Path) -> None:
    with pytest.raises((QuoitError, OSError), match="/proc"):
        publish(open_checkpoint(str(byte_checkpoint_folder)), Request(Path("/proc/quoit-artifact"), ("fp32",)))
