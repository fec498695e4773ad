"""The doctor finds a healthy artifact healthy and says what is wrong with another."""

import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from quoit.artifact import MANIFEST, Artifact, read_artifact, write_manifest
from quoit.cli.doctor import Finding, examine

CHECKS = [
    *("machine", "files", "onnxruntime", "provider", "precision", "int8 arithmetic", "native kernels", "load"),
    *("alone and in a batch", "golden scores", "speed"),
]


@pytest.fixture
def copy(artifact: Artifact, tmp_path: Path) -> Artifact:
    """The artifact in a folder of the test's own; its files are links, to be replaced and not written into."""
    folder = tmp_path / "copy"
    shutil.copytree(artifact.folder, folder, copy_function=os.link)
    return Artifact(folder, artifact.manifest)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_a_healthy_artifact_passes_every_check(artifact: Artifact) -> None:
    findings = list(examine(artifact, "fp32", "cpu"))
    assert [finding.name for finding in findings] == CHECKS
    assert all(finding.holds for finding in findings)
    assert by_name(findings)["golden scores"].detail.startswith("none known for ")
    assert by_name(findings)["precision"].detail == "fp32: asked for"


def test_a_healthy_reranker_passes_every_check(rerank_artifact: Artifact) -> None:
    """The golden scores are an embedding model's alone."""
    findings = list(examine(rerank_artifact, "fp32", "cpu"))
    assert [finding.name for finding in findings] == [name for name in CHECKS if name != "golden scores"]
    assert all(finding.holds for finding in findings)
    assert by_name(findings)["alone and in a batch"].detail == "bit-identical"
    assert by_name(findings)["load"].detail.startswith("first answer after ")


def test_random_weights_fail_the_golden_scores(copy: Artifact) -> None:
    """The official checkpoint's name does not help: the scores are computed."""
    source = replace(copy.manifest.source, id="Qwen/Qwen3-Embedding-0.6B")
    (copy.folder / MANIFEST).unlink()
    write_manifest(copy.folder, replace(copy.manifest, source=source))
    golden = by_name(list(examine(read_artifact(copy.folder), "fp32", "cpu")))["golden scores"]
    assert not golden.holds
    assert golden.detail.startswith("not within ")
    assert golden.detail.endswith("of the model card (tolerance 0.01); export the artifact again")


def test_a_damaged_file_ends_the_examination(copy: Artifact) -> None:
    file = copy.folder / "int8/model.onnx"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    findings = list(examine(copy, "fp32", "cpu"))
    assert [(finding.name, finding.holds) for finding in findings] == [("machine", True), ("files", False)]
    assert str(file) in findings[-1].detail


def test_a_precision_that_is_absent_is_a_finding(artifact: Artifact) -> None:
    variants = {name: variant for name, variant in artifact.manifest.variants.items() if name != "fp16"}
    without = Artifact(artifact.folder, replace(artifact.manifest, variants=variants))
    last = list(examine(without, "fp16", "cpu"))[-1]
    assert (last.name, last.holds) == ("run", False)
    assert "has no fp16 variant" in last.detail
