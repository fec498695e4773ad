"""The folder on disk: what is written is read, and what is wrong is refused by name."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quoit import ArtifactError
from quoit.artifact import (
    FORMAT,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Artifact,
    EmbeddingContract,
    FileRecord,
    Manifest,
    Parity,
    RerankContract,
    hash_file,
    open_artifact,
    read_artifact,
    record_file,
    write_manifest,
)
from quoit.artifact.manifest import SEAL, sealed
from support import edit_json

GRAPH = "fp32/model.onnx"
KNOWN_SEAL = "b899d93d049f912e1e02bb62f64d2bebd52ae2c944a54c8685881a74828ce9a8"


@pytest.fixture
def copy(artifact: Artifact, tmp_path: Path) -> Artifact:
    """The artifact in a folder of the test's own; its files are links, to be replaced and not written into."""
    folder = tmp_path / "copy"
    shutil.copytree(artifact.folder, folder, copy_function=os.link)
    unlink_and_write(folder / MANIFEST, (artifact.folder / MANIFEST).read_bytes())
    return Artifact(folder, artifact.manifest)


def unlink_and_write(file: Path, content: bytes) -> None:
    """Replaces a file without touching what else it is linked to."""
    file.unlink()
    file.write_bytes(content)


def graph_record(artifact: Artifact) -> FileRecord:
    return next(record for record in artifact.manifest.variants["fp32"].files if record.path == GRAPH)


def named(file: Path, message: str) -> str:
    """A pattern for a message about a file."""
    return f"{re.escape(str(file))} {message}"


def test_what_is_written_is_read(artifact: Artifact, tmp_path: Path) -> None:
    write_manifest(tmp_path, artifact.manifest)
    found = read_artifact(tmp_path)
    assert found == Artifact(tmp_path, artifact.manifest)
    assert read_artifact(str(artifact.folder)) == artifact


def test_writing_twice_gives_the_same_bytes(artifact: Artifact, tmp_path: Path) -> None:
    write_manifest(tmp_path, read_artifact(artifact.folder).manifest)
    assert (tmp_path / MANIFEST).read_bytes() == (artifact.folder / MANIFEST).read_bytes()


def test_every_recorded_file_is_there_with_its_hash(artifact: Artifact) -> None:
    manifest = artifact.manifest
    records = [manifest.tokenizer, *(record for variant in manifest.variants.values() for record in variant.files)]
    paths = [artifact.verify(record) for record in records]
    on_disk = {path for path in artifact.folder.rglob("*") if path.is_file()}
    assert {*paths, artifact.folder / MANIFEST} == on_disk, "no file without a record"
    assert [record_file(artifact.folder, path) for path in paths] == records


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    with pytest.raises(ArtifactError, match=named(folder, "is not a folder; make it with `quoit-export")):
        read_artifact(folder)


def test_a_file_is_no_folder(copy: Artifact) -> None:
    with pytest.raises(ArtifactError, match="is not a folder"):
        read_artifact(copy.folder / MANIFEST)


def test_a_folder_without_a_manifest_is_refused(checkpoint_folder: Path) -> None:
    with pytest.raises(ArtifactError, match=named(checkpoint_folder, "has no quoit.json, so it is no artifact")):
        read_artifact(checkpoint_folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b'{"format": 1',
        b"\xff\xfe",
        b'{"format": 1, "created_by": "\xff"}',
        b'{"format": 1} {"format": 1}',
        pytest.param(b"[" * 500_000, id="deep"),
    ],
)
def test_damaged_json_is_refused(copy: Artifact, content: bytes) -> None:
    file = copy.folder / MANIFEST
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=named(file, "is damaged: .*; export the artifact again")):
        read_artifact(copy.folder)


def test_half_a_manifest_is_refused(copy: Artifact) -> None:
    file = copy.folder / MANIFEST
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(ArtifactError, match=named(file, "is damaged")):
        read_artifact(copy.folder)


@pytest.mark.parametrize("version", [0, FORMAT - 1, FORMAT + 1, str(FORMAT), None])
def test_another_format_is_refused(copy: Artifact, version: object) -> None:
    file = copy.folder / MANIFEST
    edit_json(file, format=version)
    step = "upgrade with `pip" if version == FORMAT + 1 else "export the artifact again with `quoit-export CHECKPOINT "
    message = f"has format {version!r}, this quoit reads format {FORMAT}; {step}"
    with pytest.raises(ArtifactError, match=named(file, message)):
        read_artifact(copy.folder)


@pytest.mark.parametrize("content", ["[]", "null", "5", '"quoit"'])
def test_json_that_is_no_object_has_no_format(copy: Artifact, content: str) -> None:
    (copy.folder / MANIFEST).write_text(content)
    with pytest.raises(ArtifactError, match="has format None"):
        read_artifact(copy.folder)


def test_another_format_is_named_before_its_fields_are_read(copy: Artifact) -> None:
    (copy.folder / MANIFEST).write_text(json.dumps({"format": FORMAT + 1, "a field of the future": 5}))
    with pytest.raises(ArtifactError, match=f"has format {FORMAT + 1}"):
        read_artifact(copy.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "blue"}, "unknown field `colour`"),
        ({"created_by": None}, "missing required field `created_by`"),
        ({"contract": None}, "missing required field `contract`"),
        ({"variants": None}, "missing required field `variants`"),
        ({"max_tokens": 0}, r"Expected `int` >= 1 - at `\$.max_tokens`"),
        ({"variants": {"fp8": {"graphs": {}, "data": [], "parity": [], "accepted": True}}}, "Invalid enum value 'fp8'"),
        ({"tokenizer": {"path": "a", "bytes": 1, "sha256": "short"}}, r"matching regex .* at `\$.tokenizer.sha256`"),
        ({"tokenizer": {"path": "a", "bytes": -1, "sha256": "0" * 64}}, r">= 0 - at `\$.tokenizer.bytes`"),
        ({"tokenizer": {"path": "a", "bytes": 1, "sha256": "0" * 64, "mode": 1}}, "unknown field `mode`"),
    ],
)
def test_a_field_that_is_wrong_is_named(copy: Artifact, changes: dict[str, Any], message: str) -> None:
    file = copy.folder / MANIFEST
    edit_json(file, **changes)
    with pytest.raises(ArtifactError, match=named(file, f"is damaged: .*{message}")):
        read_artifact(copy.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end_token_id": None}, r"missing required field `end_token_id` - at `\$.contract`"),
        ({"end_token_id": -1}, r"Expected `int` >= 0 - at `\$.contract.end_token_id`"),
        ({"min_dim": 0}, r"Expected `int` >= 1 - at `\$.contract.min_dim`"),
        ({"min_dim": "32"}, r"Expected `int`, got `str` - at `\$.contract.min_dim`"),
        ({"prompts": {"query": 5}}, r"Expected `str`, got `int` - at `\$.contract.prompts"),
        ({"task": "translation"}, r"Invalid value 'translation' - at `\$.contract.task`"),
        ({"task": None}, r"missing required field `task` - at `\$.contract`"),
        ({"task": "rerank"}, r"unknown field `prompts` - at `\$.contract`"),
    ],
)
def test_a_field_of_the_contract_that_is_wrong_is_named(copy: Artifact, changes: dict[str, Any], message: str) -> None:
    file = copy.folder / MANIFEST
    contract = json.loads(file.read_text())["contract"] | changes
    edit_json(file, contract={name: value for name, value in contract.items() if value is not None})
    with pytest.raises(ArtifactError, match=named(file, f"is damaged: .*{message}")):
        read_artifact(copy.folder)


RERANK = RerankContract("before ", " behind", "judge", 9693, 2152)


@pytest.mark.parametrize("contract", [RERANK, replace(RERANK, yes_token_id=None, no_token_id=None)])
def test_a_rerank_contract_survives_the_disk(artifact: Artifact, tmp_path: Path, contract: RerankContract) -> None:
    write_manifest(tmp_path, replace(artifact.manifest, contract=contract))
    found = read_artifact(tmp_path)
    assert found.manifest.task == "rerank"
    assert found.contract(RerankContract) == contract


def test_a_default_prompt_is_written_only_where_there_is_one(artifact: Artifact, tmp_path: Path) -> None:
    """So older versions, which do not know this field, read what does not use it."""
    assert "default_prompt_name" not in json.loads((artifact.folder / MANIFEST).read_text())["contract"]
    contract = replace(artifact.contract(EmbeddingContract), default_prompt_name="query")
    write_manifest(tmp_path, replace(artifact.manifest, contract=contract))
    assert read_artifact(tmp_path).manifest.contract == contract
    (tmp_path / MANIFEST).write_text((tmp_path / MANIFEST).read_text().replace('_name": "query"', '_name": "document"'))
    with pytest.raises(ArtifactError, match="is damaged"):
        read_artifact(tmp_path)


def test_the_contract_decides_the_task(artifact: Artifact) -> None:
    assert artifact.manifest.task == "embedding"
    assert artifact.contract(EmbeddingContract) is artifact.manifest.contract
    written = json.loads((artifact.folder / MANIFEST).read_text())
    assert "task" not in written
    assert written["contract"]["task"] == "embedding"


def test_a_contract_of_another_task_names_the_class_to_use(artifact: Artifact) -> None:
    message = "is made for embedding, and rerank was asked for; open it with quoit.Embedder"
    with pytest.raises(ArtifactError, match=named(artifact.folder, message)):
        artifact.contract(RerankContract)
    other = Artifact(artifact.folder, replace(artifact.manifest, contract=RERANK))
    message = "is made for rerank, and embedding was asked for; open it with quoit.Reranker"
    with pytest.raises(ArtifactError, match=named(artifact.folder, message)):
        other.contract(EmbeddingContract)


def test_an_artifact_is_opened_by_its_folder_or_as_it_is(artifact: Artifact) -> None:
    assert open_artifact(artifact) is artifact
    assert open_artifact(artifact.folder) == open_artifact(str(artifact.folder)) == artifact


def test_a_field_of_an_inner_record_that_is_missing_is_named(copy: Artifact) -> None:
    file = copy.folder / MANIFEST
    costs = json.loads(file.read_text())["costs"]
    del costs["weights"]
    edit_json(file, costs=costs)
    with pytest.raises(ArtifactError, match=r"missing required field `weights` - at `\$.costs`"):
        read_artifact(copy.folder)


def reseal(file: Path, **changes: Any) -> None:
    """Sets fields of a manifest as a program would that knows them, with the seal that they have."""
    document = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(document | {SEAL: sealed(document)}))


LATER_FIELDS = [
    {"rows_in_two_passes": True},
    {"pooling": "mean"},
    {"tokenizer": {"path": "tokenizer.json", "bytes": 1, "sha256": "0" * 64, "kind": "sentencepiece"}},
]


@pytest.mark.parametrize("changes", LATER_FIELDS)
def test_what_a_newer_quoit_says_asks_for_an_upgrade(copy: Artifact, changes: dict[str, Any]) -> None:
    """A right seal tells a newer quoit's words from damage."""
    file = copy.folder / MANIFEST
    reseal(file, **changes)
    message = "says what this quoit does not know: .*; it was written by quoit .*, upgrade with `pip install --upgrade "
    with pytest.raises(ArtifactError, match=named(file, message)):
        read_artifact(copy.folder)
    edit_json(file, sha256="0" * 64)
    with pytest.raises(ArtifactError, match=named(file, "is damaged: .*; export the artifact again")):
        read_artifact(copy.folder)


class LaterManifest(Manifest, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The manifest of a later version, with one more field."""

    kernels: str | None = None


def test_a_later_version_reads_what_this_one_writes(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its optional field is not in the file, and the seal is that of what is there."""
    written = (artifact.folder / MANIFEST).read_bytes()
    monkeypatch.setattr("quoit.artifact.folder.Manifest", LaterManifest)
    found = read_artifact(artifact.folder).manifest
    assert isinstance(found, LaterManifest)
    assert found.kernels is None
    assert found.variants == artifact.manifest.variants
    write_manifest(tmp_path, found)
    assert (tmp_path / MANIFEST).read_bytes() == written, "a default is left out, so this version reads it too"
    write_manifest(tmp_path, replace(found, kernels="native"))
    assert read_artifact(tmp_path).manifest == replace(found, kernels="native")
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match=r"unknown field `kernels`; .* upgrade with"):
        read_artifact(tmp_path)


def test_a_seal_is_that_of_the_content_and_not_of_how_it_is_written(copy: Artifact) -> None:
    """Other spaces and another order of fields are the same manifest; any other value is not."""
    file = copy.folder / MANIFEST
    document = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(document.items()))))
    assert read_artifact(copy.folder) == copy
    for name in set(document) - {SEAL}:
        other = document[name] + 1 if isinstance(document[name], int) else "other"
        assert sealed(document | {name: other}) != document[SEAL]


def test_the_seal_of_a_known_manifest_stays_what_it_is() -> None:
    """Otherwise artifacts that are written now would not open in later versions."""
    document = {
        "format": 6,
        "contract": {"prompts": {"query": "naïve 北京 🙂\n"}},
        "numbers": [1e-6, 1000000.0, 5, None],
    }
    assert sealed(document | {SEAL: "whatever"}) == sealed(document) == KNOWN_SEAL


def test_an_oversize_manifest_is_refused(copy: Artifact) -> None:
    file = copy.folder / MANIFEST
    content = file.read_bytes()
    file.write_bytes(content + b" " * (MAX_MANIFEST_BYTES - len(content)))
    assert read_artifact(copy.folder) == copy
    file.write_bytes(content + b" " * (MAX_MANIFEST_BYTES - len(content) + 1))
    with pytest.raises(ArtifactError, match=named(file, "is larger than 1,048,576 bytes")):
        read_artifact(copy.folder)


@pytest.mark.parametrize("check", [Artifact.path, Artifact.verify])
@pytest.mark.parametrize("path", ["/etc/hostname", "../outside", "fp32/../../outside", "fp32\\model.onnx", "", "."])
def test_a_path_out_of_the_folder_is_refused(
    copy: Artifact, path: str, check: Callable[[Artifact, FileRecord], Path]
) -> None:
    (copy.folder.parent / "outside").write_bytes(b"")
    record = FileRecord(path, 0, "0" * 64)
    with pytest.raises(ArtifactError, match=rf"names a file outside its folder, {re.escape(repr(path))}"):
        check(copy, record)


@pytest.mark.parametrize("path", ["absent.onnx", "fp32", "fp32/absent/model.onnx", "nul\x00byte"])
def test_a_missing_file_is_refused(copy: Artifact, path: str) -> None:
    with pytest.raises(ArtifactError, match=named(copy.folder / path, "is missing; export the artifact again")):
        copy.path(FileRecord(path, 1, "0" * 64))


@pytest.mark.parametrize("check", [Artifact.path, Artifact.verify])
def test_another_size_is_refused(copy: Artifact, check: Callable[[Artifact, FileRecord], Path]) -> None:
    record, file = graph_record(copy), copy.folder / GRAPH
    unlink_and_write(file, file.read_bytes() + b"x")
    message = f"has {record.bytes + 1:,} bytes, {record.bytes:,} expected"
    with pytest.raises(ArtifactError, match=named(file, message)):
        check(copy, record)


def test_another_hash_is_refused(copy: Artifact) -> None:
    record, file = graph_record(copy), copy.folder / GRAPH
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    unlink_and_write(file, bytes(content))
    assert copy.path(record) == file, "the quick check sees the size only"
    message = f"is damaged: its SHA-256 is {hash_file(file)[:12]}…, {record.sha256[:12]}… expected"
    with pytest.raises(ArtifactError, match=named(file, message)):
        copy.verify(record)


def test_an_absent_variant_names_those_that_are_there(artifact: Artifact) -> None:
    variants = {name: variant for name, variant in artifact.manifest.variants.items() if name != "fp16"}
    without = Artifact(artifact.folder, replace(artifact.manifest, variants=variants))
    with pytest.raises(ArtifactError, match=r"has no fp16 variant \(it has fp32, int8\).*--precision fp16"):
        without.variant("fp16")


def rejected(artifact: Artifact, *names: str) -> Artifact:
    """The artifact as if export had rejected some of its variants."""
    parity = (
        Parity("cosine", "transformers", "held-out", 5, 1.0, 1.0, 1.0, 0.9, None),
        Parity("cosine", "fp32", "held-out", 5, 0.99, 0.95, 0.91234, 0.98, 0.995),
        Parity("spearman", "fp32", "calibration", 5, 0.9, 0.8, 0.75, 0.8, None),
    )
    variants = {
        name: replace(variant, accepted=False, parity=parity) if name in names else variant
        for name, variant in artifact.manifest.variants.items()
    }
    return Artifact(artifact.folder, replace(artifact.manifest, variants=variants))


@pytest.mark.parametrize(
    ("least", "passed"), [(0.98, True), (0.981, True), (0.9799999, False), (-1.0, False), (float("nan"), False)]
)
def test_parity_passes_at_its_floor_and_above(least: float, passed: bool) -> None:
    assert Parity("cosine", "fp32", "held-out", 68, 0.99, 0.99, least, 0.98, None).passes is passed


@pytest.mark.parametrize(("mean", "passed"), [(0.995, True), (0.9949999, False), (float("nan"), False)])
def test_a_mean_has_a_floor_of_its_own(mean: float, passed: bool) -> None:
    assert Parity("cosine", "fp32", "held-out", 68, mean, 0.99, 0.985, 0.985, 0.995).passes is passed


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_what_is_only_recorded_always_passes(value: float) -> None:
    parity = Parity("ranking", "fp32", "held-out", 68, value, value, value, None, None)
    assert parity.recorded
    assert parity.passes


def test_a_measure_may_have_a_floor_of_its_mean_alone() -> None:
    """Its message then names that floor, and no other."""
    parity = Parity("top10", "fp32", "held-out", 68, 0.44, 0.0, 0.0, None, 0.8, "saturating")
    assert not parity.recorded
    assert not parity.passes
    assert replace(parity, mean=0.8).passes
    assert parity.shortfall() == "top10 to fp32 on held-out texts with 7-bit activations mean 0.44000, below 0.8"


def test_a_measure_that_came_later_is_one_that_an_older_quoit_asks_to_upgrade_for(copy: Artifact) -> None:
    """Its word is new in the same format: a file without it opens in both."""
    file = copy.folder / MANIFEST
    variants = json.loads(file.read_text())["variants"]
    variants["int8"]["parity"][1]["measure"] = "a later measure"
    reseal(file, variants=variants)
    with pytest.raises(ArtifactError, match=named(file, "says what this quoit does not know: .*upgrade with")):
        read_artifact(copy.folder)
    variants["int8"]["parity"] = [one for one in variants["int8"]["parity"] if one["measure"] == "cosine"]
    reseal(file, variants=variants)
    assert read_artifact(copy.folder).accepted() == copy.accepted(), "as an artifact without the centred cosine"


def test_a_rejected_variant_says_by_how_much_and_what_is_left(artifact: Artifact) -> None:
    without = rejected(artifact, "int8")
    assert without.accepted() == ["fp32", "fp16"]
    message = r"int8 variant of .* was rejected at export \(cosine to fp32 on held-out texts least 0.91234, below 0.98 "
    message += r"and mean 0.99000, below 0.995; spearman to fp32 on calibration texts least 0.75000, below 0.8\); use "
    message += "another "
    with pytest.raises(ArtifactError, match=message + "precision of fp32, fp16"):
        without.variant("int8")
    assert without.variant("fp32").accepted


def test_with_all_variants_rejected_a_new_export_is_left(artifact: Artifact) -> None:
    without = rejected(artifact, "fp32", "fp16", "int8")
    assert without.accepted() == []
    with pytest.raises(ArtifactError, match="a new export"):
        without.variant("fp32")


def test_a_rejection_survives_the_disk(artifact: Artifact, tmp_path: Path) -> None:
    write_manifest(tmp_path, rejected(artifact, "int8").manifest)
    with pytest.raises(ArtifactError, match="was rejected at export"):
        read_artifact(tmp_path).variant("int8")
