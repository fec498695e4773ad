"""A damaged or forged quoit.json is refused, or describes an artifact whose files all lie in its folder."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import JSON_VALUES, TEXTS, damaged, fuzz, mutated_json
from quoit.artifact import FORMAT, MANIFEST, Artifact, FileRecord, Manifest, read_artifact
from quoit.errors import ArtifactError

Forge = Any

PARTS = st.sampled_from(
    [
        "..",
        ".",
        "",
        "/",
        "\\",
        "\0",
        "~",
        "C:",
        "fp32",
        "model.onnx",
        "tokenizer.json",
        "a" * 300,
        " ",
        "\n",
        "quoit.json",
    ]
)
PATHS = st.one_of(
    TEXTS,
    st.lists(PARTS, max_size=6).map("/".join),
    st.lists(PARTS, max_size=4).map("".join),
    st.sampled_from(
        ["/etc/passwd", "../secret", "fp32/../../secret", "..\\secret", "./fp32/model.onnx", "a/" * 3000, "link", "dir"]
    ),
)


@pytest.fixture(scope="module")
def forged(byte_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the artifact, in a folder beside which lies a file that is none of its."""
    outside = tmp_path_factory.mktemp("forged")
    (outside / "secret").write_bytes(b"0123456789")
    shutil.copytree(byte_artifact.folder, outside / "artifact")
    return outside / "artifact"


@pytest.fixture(scope="module")
def original(byte_artifact: Artifact) -> bytes:
    """The bytes of quoit.json."""
    return (byte_artifact.folder / MANIFEST).read_bytes()


def check(folder: Path, content: bytes) -> None:
    """Whatever quoit.json holds: an ArtifactError, or records that name files of this folder or are refused."""
    (folder / MANIFEST).write_bytes(content)
    try:
        artifact = read_artifact(folder)
    except ArtifactError as error:
        assert MANIFEST in str(error)  # noqa: PT017
        return
    assert artifact.manifest.format == FORMAT
    for record in artifact.manifest.records():
        check_path(artifact, record)


def check_path(artifact: Artifact, record: FileRecord) -> None:
    """A record's path is a file of its size inside the folder, or refused."""
    try:
        path = artifact.path(record)
    except ArtifactError:
        return
    assert path.resolve().is_relative_to(artifact.folder.resolve())
    assert path.stat().st_size == record.bytes


@fuzz(1500)
@given(st.data())
def test_flipped_cut_and_overwritten_bytes_are_refused_or_harmless(
    forged: Path, original: bytes, data: st.DataObject
) -> None:
    check(forged, data.draw(damaged(original)))


@fuzz(1500)
@given(st.data())
def test_any_values_in_the_manifest_are_refused_or_harmless(forged: Path, original: bytes, data: st.DataObject) -> None:
    document = data.draw(mutated_json(json.loads(original), JSON_VALUES | PATHS))
    check(forged, json.dumps(document).encode())


@fuzz(500)
@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_in_place_of_the_manifest_are_refused(forged: Path, content: bytes) -> None:
    (forged / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match=MANIFEST):
        read_artifact(forged)


@fuzz(1000)
@given(PATHS)
def test_no_path_leads_out_of_the_folder(forged: Path, byte_artifact: Artifact, path: str) -> None:
    """Whatever a record names, with the size of the file that lies outside or of one inside."""
    manifest: Manifest = byte_artifact.manifest
    artifact = Artifact(forged, manifest)
    for size in (10, manifest.tokenizer.bytes, manifest.variants["fp32"].files[0].bytes):
        check_path(artifact, FileRecord(path, size, "0" * 64))


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"format":'])
def test_deep_nesting_is_refused(forged: Path, opening: str, depth: int) -> None:
    (forged / MANIFEST).write_text(opening * depth)
    with pytest.raises(ArtifactError, match=MANIFEST):
        read_artifact(forged)


def test_a_manifest_that_is_a_folder_or_a_pipe_is_refused(forged: Path, tmp_path: Path) -> None:
    """A pipe would never end."""
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(ArtifactError, match=MANIFEST):
        read_artifact(tmp_path)
    (tmp_path / MANIFEST).rmdir()
    os.mkfifo(tmp_path / MANIFEST)
    with pytest.raises(ArtifactError, match=MANIFEST):
        read_artifact(tmp_path)
