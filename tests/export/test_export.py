"""Publishing is all or nothing, goes on where it stopped, and never touches what it did not make."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.numpy import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

from oracle import make_classifier, make_model, make_reranker, save_checkpoint, save_rerank_checkpoint
from quoit import Embedder, Reranker
from quoit.artifact import (
    FORMAT,
    Artifact,
    EmbeddingContract,
    FileRecord,
    Measure,
    Precision,
    hash_file,
    read_artifact,
)
from quoit.errors import ArtifactError, InputError
from quoit.ort.kernels import find_kernels
from quoit_export.build.staging import GRAPHS
from quoit_export.build.variants import SPARE_BYTES
from quoit_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from quoit_export.errors import ExportError, ParityError
from quoit_export.export import Request, publish
from quoit_export.precisions.table import PRECISIONS
from quoit_export.quantize.calibration import CalibrationTexts
from quoit_export.quantize.methods import NEARLY
from quoit_export.verify.parity import held_out
from random_checkpoint import PROMPTS
from support import SMALL, edit_json, without_modules

SMALL_REAL = Path(__file__).parents[2] / "models" / "quoit-embedding-9m"
LINEARS = 4 * 7
"""Of its four layers."""
IMPOSSIBLE = 1.1
SECONDS = 60
"""How long an export in another process may take before a test gives up on it."""


@pytest.fixture(scope="module")
def model() -> Any:
    """A model that is small but for its genuine vocabulary."""
    return make_model(hidden_size=32, num_hidden_layers=2)


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path, model: Any) -> Path:
    """The model's checkpoint. Read-only."""
    return save_checkpoint(tmp_path_factory.mktemp("small") / "model", tokenizer_file, model)


@pytest.fixture(scope="module")
def small(small_folder: Path) -> Checkpoint:
    return open_checkpoint(str(small_folder))


@pytest.fixture(scope="module")
def fp32_only(tmp_path_factory: pytest.TempPathFactory, small: Checkpoint) -> Artifact:
    """The model's fp32 variant alone. Read-only."""
    return publish(small, Request(tmp_path_factory.mktemp("published") / "small", ("fp32",)))


@pytest.fixture
def published(tmp_path: Path, fp32_only: Artifact) -> Artifact:
    """A copy of the fp32 artifact, to be changed."""
    shutil.copytree(fp32_only.folder, tmp_path / "small")
    return read_artifact(tmp_path / "small")


@pytest.fixture
def changed(tmp_path: Path, small_folder: Path) -> Callable[..., Checkpoint]:
    """The small checkpoint with the same weights and another config.json."""

    def make(**changes: Any) -> Checkpoint:
        folder = tmp_path / "changed"
        shutil.copytree(small_folder, folder)
        edit_json(folder / "config.json", **changes)
        return open_checkpoint(str(folder))

    return make


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder and its hash."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def expected_files(*precisions: Precision) -> set[str]:
    variants = {f"{name}/{file}" for name in precisions for file in ("model.onnx", "model.onnx.data")}
    halves = {f"{name}/{GRAPHS['cuda']}" for name in precisions if name in ("fp16", "bf16", "int4")}
    halves |= {f"{name}/{GRAPHS['emulated']}" for name in precisions if name == "int4"}
    narrow = {f"{name}/{GRAPHS['saturating']}" for name in precisions if name == "int8"}
    native = {f"{name}/{GRAPHS['native_attention']}" for name in precisions if name in ("fp32", "int8", "int4")}
    native |= {f"{name}/{GRAPHS['native']}" for name in precisions if name == "int8"}
    return {"quoit.json", "tokenizer.json"} | variants | halves | narrow | native


def hashes(artifact: Artifact, precision: Precision) -> dict[str, str]:
    return {record.path: record.sha256 for record in artifact.manifest.variants[precision].files}


def names_beside(artifact_folder: Path) -> list[str]:
    return sorted(path.name for path in artifact_folder.parent.iterdir())


def start_export(checkpoint: Path, out: Path, *precisions: Precision) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "quoit_export", str(checkpoint), str(out), "--precision", *precisions]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(export: "subprocess.Popen[str]", reached: Callable[[], bool]) -> None:
    """Returns as soon as a running export has reached a state."""
    deadline = time.monotonic() + SECONDS
    while not reached():
        assert export.poll() is None, export.communicate()
        assert time.monotonic() < deadline, "the export did not get that far"
        time.sleep(0.001)


def test_an_artifact_is_exactly_its_files(tmp_path: Path, artifact: Artifact, checkpoint: Checkpoint) -> None:
    """Nothing is left beside it, and every recorded size and hash is the file's."""
    assert set(contents(artifact.folder)) == expected_files("fp32", "fp16", "int8")
    assert names_beside(artifact.folder) == [artifact.folder.name]
    manifest = artifact.manifest
    records: list[FileRecord] = [manifest.tokenizer]
    for precision, variant in manifest.variants.items():
        assert [record.path for record in variant.files] == sorted(
            file for file in expected_files(precision) if file.startswith(precision)
        )
        records += variant.files
    for record in records:
        file = artifact.folder / record.path
        assert (record.bytes, record.sha256) == (file.stat().st_size, hash_file(file))
    assert manifest.tokenizer.sha256 == hash_file(checkpoint.tokenizer_file)


def test_every_graph_has_a_name_a_file_and_a_layout(artifact: Artifact) -> None:
    """CPUs run from the stream without padding, CUDA from padded rows."""
    packed = ("cpu", "saturating", "emulated", "native", "native_attention")
    layouts = {**dict.fromkeys(packed, "packed"), "cuda": "padded"}
    for precision, variant in artifact.manifest.variants.items():
        for name, graph in variant.graphs.items():
            assert graph.file.path == f"{precision}/{GRAPHS[name]}"
            assert graph.layout == layouts[name]
        assert [record.path for record in variant.data] == [f"{precision}/model.onnx.data"]
    assert {name: list(variant.graphs) for name, variant in artifact.manifest.variants.items()} == {
        "fp32": ["cpu", "native_attention"],
        "fp16": ["cpu", "cuda"],
        "int8": ["cpu", "saturating", "native", "native_attention"],
    }


def test_the_manifest_says_what_the_checkpoint_is(artifact: Artifact, checkpoint: Checkpoint) -> None:
    manifest = read_artifact(artifact.folder).manifest
    assert manifest == artifact.manifest
    assert manifest.format == FORMAT
    assert manifest.created_by.startswith("quoit ")
    assert manifest.task == "embedding"
    assert manifest.family == checkpoint.architecture.family
    assert manifest.costs == checkpoint.architecture.costs
    assert manifest.pooling == "last"
    assert (manifest.dimension, manifest.vocab_size) == (SMALL["hidden_size"], SMALL["vocab_size"])
    assert manifest.max_tokens == 32_768
    assert manifest.contract == EmbeddingContract(prompts=PROMPTS, end_token_id=151_643, min_dim=32)
    assert manifest.source == checkpoint.source
    assert list(manifest.variants) == ["fp32", "fp16", "int8"]
    assert all(variant.accepted for variant in manifest.variants.values())
    measured = {
        name: sorted({(parity.reference, parity.texts) for parity in variant.parity})
        for name, variant in manifest.variants.items()
    }
    assert measured == {
        "fp32": [("fp32", "held-out")] * bool(find_kernels().graphs) + [("transformers fp32", "held-out")],
        "fp16": [("fp32", "held-out")],
        "int8": [("fp32", "calibration"), ("fp32", "held-out"), ("fp32", "snippet")],
    }
    assert [variant.quantization is None for variant in manifest.variants.values()] == [True, True, False]
    assert [variant.scaling is None for variant in manifest.variants.values()] == [True, False, True]


def calibrated(name: str) -> CalibrationTexts:
    """Texts of one's own."""
    return CalibrationTexts(name, tuple(f"{name} text number {number}" for number in range(12)))


def source_of(artifact: Artifact) -> tuple[str, int]:
    """The name and number of the texts that int8 was made with."""
    record = artifact.manifest.variants["int8"].quantization
    assert record is not None
    return record.calibration.source, record.calibration.texts


def test_int8_says_what_it_was_made_with(tmp_path: Path, small: Checkpoint) -> None:
    found = publish(small, Request(tmp_path / "out", ("int8",), calibration=calibrated("mine")))
    assert source_of(found) == ("mine", 12)
    record = read_artifact(found.folder).manifest.variants["int8"].quantization
    assert record is not None
    assert record.calibration.sha256 == calibrated("mine").sha256
    assert record.errors[record.method] <= NEARLY * min(record.errors.values())


def test_int8_is_made_anew_with_other_texts_when_it_is_asked_for(small: Checkpoint, published: Artifact) -> None:
    """Else it stays, bit by bit."""
    first = publish(small, Request(published.folder, ("int8",)))
    assert source_of(first) == ("built-in", 128)
    kept = publish(small, Request(published.folder, ("fp32",), calibration=calibrated("mine")))
    assert kept.manifest == first.manifest
    other = publish(small, Request(published.folder, ("int8",), calibration=calibrated("mine")))
    assert source_of(other) == ("mine", 12)
    assert other.manifest.variants["fp32"] == first.manifest.variants["fp32"]
    again = publish(small, Request(published.folder, ("int8",)))
    assert again.manifest == first.manifest
    assert names_beside(published.folder) == ["small"]


MEASURE = "Making._measure"


def interrupt_at(place: str, checkpoint: Checkpoint, request: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that is interrupted when it comes to a function of `variants`; at MEASURE all is written."""
    with monkeypatch.context() as patch:
        patch.setattr(f"quoit_export.build.variants.{place}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            publish(checkpoint, request)


def test_an_interrupted_int8_is_not_taken_up_by_an_export_with_other_texts(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staged with some texts, and published with others: as if it had never been staged."""
    interrupt_at(MEASURE, small, Request(tmp_path / "out", ("fp32", "int8")), monkeypatch)
    staged = tmp_path / ".out.partial" / "int8" / "model.onnx.data"
    assert staged.is_file()
    found = publish(small, Request(tmp_path / "out", ("fp32", "int8"), calibration=calibrated("mine")))
    fresh = publish(small, Request(tmp_path / "fresh", ("fp32", "int8"), calibration=calibrated("mine")))
    assert source_of(found) == ("mine", 12)
    assert found.manifest == fresh.manifest


def test_int8_alone_is_made_without_writing_fp32(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is the same as beside fp32: its files, its parity, and how it was made."""
    interrupt_at(MEASURE, small, Request(tmp_path / "out", ("int8",)), monkeypatch)
    assert {path.name for path in (tmp_path / ".out.partial").iterdir()} == {"int8", "partial.json", "tokenizer.json"}
    alone = publish(small, Request(tmp_path / "out", ("int8",)))
    beside = publish(small, Request(tmp_path / "beside", ("fp32", "int8")))
    assert alone.manifest.variants == {"int8": beside.manifest.variants["int8"]}
    assert set(contents(alone.folder)) == expected_files("int8")


def test_an_interrupted_int8_is_taken_up_with_how_it_was_made(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(MEASURE, small, Request(tmp_path / "out", ("fp32", "int8")), monkeypatch)
    staged = (tmp_path / ".out.partial" / "int8" / "model.onnx.data").stat()
    with monkeypatch.context() as patch:
        patch.setattr("quoit_export.build.variants.observe", interrupt)
        found = publish(small, Request(tmp_path / "out", ("fp32", "int8")))
    taken = (found.folder / "int8" / "model.onnx.data").stat()
    assert (taken.st_ino, taken.st_mtime_ns) == (staged.st_ino, staged.st_mtime_ns)
    assert source_of(found) == ("built-in", 128)


TRIALS = "Making._refine"


def test_an_int8_whose_trials_were_interrupted_is_made_again(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written and recorded, and its second passes are still to be chosen."""
    interrupt_at(TRIALS, small, Request(tmp_path / "out", ("fp32", "int8")), monkeypatch)
    assert (tmp_path / ".out.partial" / "int8" / "model.onnx.data").is_file()
    interrupt_at(TRIALS, small, Request(tmp_path / "out", ("fp32", "int8")), monkeypatch)
    found = publish(small, Request(tmp_path / "out", ("fp32", "int8")))
    fresh = publish(small, Request(tmp_path / "fresh", ("fp32", "int8")))
    assert found.manifest == fresh.manifest


def interrupt(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["rank_methods", "observe"])
def test_a_calibration_that_was_cut_short_leaves_nothing(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    interrupt_at(place, small, Request(tmp_path / "out", ("fp32", "int8")), monkeypatch)
    assert not (tmp_path / "out").exists()
    found = publish(small, Request(tmp_path / "out", ("fp32", "int8")))
    assert set(contents(found.folder)) == expected_files("fp32", "int8")


def test_int8_has_its_size(artifact: Artifact) -> None:
    """An int8 linear layer takes a quarter of fp32, and a float16 token table half."""
    size = {name: sum(record.bytes for record in v.files) for name, v in artifact.manifest.variants.items()}
    assert size["int8"] < 0.56 * size["fp32"]
    assert size["fp16"] < 0.52 * size["fp32"]


def as_older_config(folder: Path, source: Path, model: Any) -> None:
    shutil.copytree(source, folder)
    edit_json(folder / "config.json", rope_parameters=None, rope_theta=1_000_000, dtype=None, torch_dtype="bfloat16")


def as_float32(folder: Path, source: Path, model: Any) -> None:
    shutil.copytree(source, folder)
    tensors = {name: values.astype(np.float32) for name, values in load_file(source / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def as_shards(folder: Path, source: Path, model: Any) -> None:
    save_checkpoint(folder, source / "tokenizer.json", model, shard_size="50KB")
    assert len(list(folder.glob("*.safetensors"))) > 2


def as_language_model(folder: Path, source: Path, model: Any, *, tied: bool) -> None:
    config = Qwen3Config(**{**model.config.to_dict(), "tie_word_embeddings": tied})
    outer: Any = Qwen3ForCausalLM(config)
    outer.to(torch.bfloat16)
    outer.model.load_state_dict(model.state_dict())
    save_checkpoint(folder, source / "tokenizer.json", outer)


def as_tied_language_model(folder: Path, source: Path, model: Any) -> None:
    as_language_model(folder, source, model, tied=True)


def as_untied_language_model(folder: Path, source: Path, model: Any) -> None:
    as_language_model(folder, source, model, tied=False)


@pytest.mark.parametrize(
    "write", [as_older_config, as_float32, as_shards, as_tied_language_model, as_untied_language_model]
)
def test_how_a_checkpoint_is_stored_does_not_change_the_artifact(
    tmp_path: Path, small_folder: Path, fp32_only: Artifact, model: Any, write: Callable[[Path, Path, Any], None]
) -> None:
    """Bit for bit the same fp32 graph and tensors."""
    write(tmp_path / "model", small_folder, model)
    found = publish(open_checkpoint(str(tmp_path / "model")), Request(tmp_path / "out", ("fp32",)))
    assert hashes(found, "fp32") == hashes(fp32_only, "fp32")
    assert found.manifest.family == fp32_only.manifest.family


def test_the_same_export_again_changes_nothing(small: Checkpoint, published: Artifact) -> None:
    files = {path: path.stat().st_mtime_ns for path in published.folder.rglob("*")}
    again = publish(small, Request(published.folder, ("fp32",)))
    assert again.manifest == published.manifest
    assert {path: path.stat().st_mtime_ns for path in published.folder.rglob("*")} == files
    assert names_beside(published.folder) == ["small"]


def test_an_added_precision_leaves_the_others_as_they_are(small: Checkpoint, published: Artifact) -> None:
    before = contents(published.folder)
    both = publish(small, Request(published.folder, ("int8",)))
    assert list(both.manifest.variants) == ["fp32", "int8"]
    assert both.manifest.variants["fp32"] == published.manifest.variants["fp32"]
    after = contents(both.folder)
    assert set(after) == expected_files("fp32", "int8")
    assert {name: after[name] for name in before if name != "quoit.json"} == {
        name: digest for name, digest in before.items() if name != "quoit.json"
    }
    assert names_beside(both.folder) == ["small"]


def test_int8_alone_is_measured_against_fp32_and_published_without_it(tmp_path: Path, small: Checkpoint) -> None:
    found = publish(small, Request(tmp_path / "out", ("int8",)))
    assert set(contents(found.folder)) == expected_files("int8")
    assert list(found.manifest.variants) == ["int8"]
    parity = found.manifest.variants["int8"].parity[0]
    assert (parity.measure, parity.reference, parity.texts) == ("cosine", "fp32", "held-out")
    assert parity.samples >= 60
    assert PRECISIONS["int8"].floors["cosine"] <= parity.minimum <= parity.mean < 1
    assert Embedder(found.folder, provider="cpu").encode("text").shape == (32,)


def test_verification_of_an_artifact_that_exists_takes_place(small: Checkpoint, published: Artifact) -> None:
    """What was asked for must not be left out in silence because the files are there already."""
    assert {parity.reference for parity in published.manifest.variants["fp32"].parity} <= {"fp32"}
    verified = publish(small, Request(published.folder, ("fp32",), verify=True))
    parity = verified.manifest.variants["fp32"].parity
    assert {one.reference for one in parity if one.graph == "cpu"} == {"transformers fp32"}
    assert hashes(verified, "fp32") == hashes(published, "fp32")


def test_a_reference_that_fails_verification_fails_the_export(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Int8 that is close to a wrong fp32 is wrong too, even where fp32 itself is not published."""
    monkeypatch.setitem(PRECISIONS["fp32"].floors, "cosine", IMPOSSIBLE)
    with pytest.raises(ParityError, match="transformers"):
        publish(small, Request(tmp_path / "out", ("int8",), verify=True))
    assert not (tmp_path / "out").exists()


def test_another_source_is_replaced_only_when_asked_to(
    tmp_path: Path, small: Checkpoint, tokenizer_file: Path, published: Artifact
) -> None:
    other_model = make_model(seed=5, hidden_size=32, num_hidden_layers=1)
    other = open_checkpoint(str(save_checkpoint(tmp_path / "other", tokenizer_file, other_model)))
    before = contents(published.folder)
    with pytest.raises(
        ExportError, match=r"holds an artifact of model made by quoit .*, and not of this checkpoint; .*--overwrite"
    ):
        publish(other, Request(published.folder, ("fp32",)))
    assert contents(published.folder) == before
    replaced = publish(other, Request(published.folder, ("fp32",), overwrite=True))
    assert replaced.manifest.source == other.source
    assert set(contents(replaced.folder)) == expected_files("fp32")
    assert hashes(replaced, "fp32") != hashes(published, "fp32")
    assert names_beside(replaced.folder) == ["other", "small"]


@pytest.mark.parametrize(
    "changes",
    [{"rms_norm_eps": 1e-5}, {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}],
    ids=["eps", "theta"],
)
def test_the_same_weights_in_another_configuration_are_another_source(
    changed: Callable[..., Checkpoint], published: Artifact, changes: dict[str, Any]
) -> None:
    """Epsilon and theta are part of the graph: variants made with other ones must not be kept."""
    before = contents(published.folder)
    with pytest.raises(ExportError, match="--overwrite"):
        publish(changed(**changes), Request(published.folder, ("fp32",)))
    assert contents(published.folder) == before


def test_an_interrupted_export_of_another_configuration_is_not_taken_up(
    tmp_path: Path, small: Checkpoint, changed: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRECISIONS["int8"].floors, "cosine", IMPOSSIBLE)
    with pytest.raises(ParityError):
        publish(small, Request(tmp_path / "out", ("fp32", "int8")))
    other = changed(rope_parameters={"rope_type": "default", "rope_theta": 10_000.0})
    found = publish(other, Request(tmp_path / "out", ("fp32",)))
    fresh = publish(other, Request(tmp_path / "fresh", ("fp32",)))
    assert hashes(found, "fp32") == hashes(fresh, "fp32")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["notes.txt", "model.safetensors", "fp32/notes.txt", ".git/config", "int8/model.onnx.bak"]
)
def test_a_folder_with_something_else_is_refused_and_left_alone(
    tmp_path: Path, small: Checkpoint, name: str, overwrite: bool
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(ExportError, match=rf"{out} holds something else, '{name}', .*move it, or name another folder"):
        publish(small, Request(out, ("fp32",), overwrite=overwrite))
    assert (out / name).read_text() == "mine"
    assert names_beside(out) == ["out"], "nothing beside it either"


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_lies_in_an_artifact_and_is_not_its_own_is_not_lost(
    small: Checkpoint, published: Artifact, overwrite: bool
) -> None:
    """Another variant takes the folder's place too."""
    (published.folder / "README.md").write_text("mine")
    before = contents(published.folder)
    with pytest.raises(ExportError, match=r"holds something else, 'README\.md'"):
        publish(small, Request(published.folder, ("fp32", "fp16"), overwrite=overwrite))
    assert contents(published.folder) == before


def test_a_damaged_artifact_is_replaced_when_asked_to(tmp_path: Path, small: Checkpoint) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "quoit.json").write_text("damaged")
    with pytest.raises(ExportError, match=f"{out} holds something else .*name another folder, or use --overwrite"):
        publish(small, Request(out, ("fp32",)))
    found = publish(small, Request(out, ("fp32",), overwrite=True))
    assert set(contents(found.folder)) == expected_files("fp32")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["tokenizer.json", "fp32/model.onnx"])
def test_a_folder_that_only_looks_like_part_of_an_artifact_is_left_alone(
    tmp_path: Path, small: Checkpoint, name: str, overwrite: bool
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(ExportError, match=r"has no quoit\.json, so it is no artifact to replace"):
        publish(small, Request(out, ("fp32",), overwrite=overwrite))
    assert (out / name).read_text() == "mine"


def test_a_link_that_leads_back_to_itself_is_refused(tmp_path: Path, small: Checkpoint) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "out")
    with pytest.raises(InputError, match="is a symbolic link that leads back to itself"):
        publish(small, Request(tmp_path / "out", ("fp32",)))


@pytest.mark.parametrize("out", [".", "..", "../work"])
def test_the_current_folder_is_never_replaced(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ExportError, match="is the current folder or holds it"):
        publish(small, Request(Path(out), ("fp32",), overwrite=True))
    assert (tmp_path / "work").is_dir()


def test_a_link_to_a_folder_is_followed(tmp_path: Path, small: Checkpoint) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "real")
    found = publish(small, Request(tmp_path / "out", ("fp32",)))
    again = publish(small, Request(tmp_path / "out", ("fp32",), overwrite=True))
    assert (tmp_path / "out").is_symlink()
    assert found.folder == again.folder == tmp_path / "disk" / "real"
    assert names_beside(found.folder) == ["real"]


def test_an_empty_folder_is_filled(tmp_path: Path, small: Checkpoint) -> None:
    (tmp_path / "out").mkdir()
    found = publish(small, Request(tmp_path / "out", ("fp32",)))
    assert set(contents(found.folder)) == expected_files("fp32")
    assert names_beside(found.folder) == ["out"]


def test_missing_parents_are_made(tmp_path: Path, small: Checkpoint) -> None:
    found = publish(small, Request(tmp_path / "a" / "b" / "out", ("fp32",)))
    assert found.folder == tmp_path / "a" / "b" / "out"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, small: Checkpoint) -> None:
    (tmp_path / "out").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ExportError, match="is a file, and not an artifact's folder"):
            publish(small, Request(tmp_path / "out", ("fp32",), overwrite=overwrite))
    assert (tmp_path / "out").read_text() == "mine"


def test_the_checkpoint_itself_is_never_replaced(tmp_path: Path, small_folder: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small_folder, folder)
    with pytest.raises(ExportError):
        publish(open_checkpoint(str(folder)), Request(folder, ("fp32",), overwrite=True))
    assert contents(folder) == contents(small_folder)


@pytest.mark.parametrize("precisions", [("fp32",), ("fp32", "int8")], ids=["already-exported", "kept"])
def test_an_artifact_that_lost_a_file_is_not_passed_over(
    small: Checkpoint, published: Artifact, precisions: tuple[Precision, ...]
) -> None:
    """Either an error names the file, or the artifact is whole afterwards."""
    lost = published.folder / "fp32" / "model.onnx.data"
    lost.unlink()
    message = ""
    try:
        publish(small, Request(published.folder, precisions))
    except (ExportError, ArtifactError) as error:
        message = str(error)
    assert str(lost) in message or lost.is_file()


def test_a_variant_below_its_floor_is_not_published(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRECISIONS["int8"].floors, "cosine", IMPOSSIBLE)
    with pytest.raises(
        ParityError, match=r"nothing was published, int8: cosine to fp32 on held-out texts least 0\.99\d*, below 1\.1;"
    ):
        publish(small, Request(tmp_path / "out", ("fp32", "int8")))
    assert not (tmp_path / "out").exists()
    found = publish(small, Request(tmp_path / "out", ("fp32",)))
    assert set(contents(found.folder)) == expected_files("fp32")
    assert names_beside(found.folder) == ["out"]


def test_a_rejected_addition_leaves_the_artifact_as_it_was(
    small: Checkpoint, published: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(published.folder)
    monkeypatch.setitem(PRECISIONS["int8"].floors, "cosine", IMPOSSIBLE)
    with pytest.raises(ParityError):
        publish(small, Request(published.folder, ("fp32", "int8")))
    assert contents(published.folder) == before


def test_a_rejected_variant_that_is_kept_does_not_run(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRECISIONS["int8"].floors, "cosine", IMPOSSIBLE)
    found = publish(small, Request(tmp_path / "out", ("fp32", "int8"), keep_rejected=True))
    assert set(contents(found.folder)) == expected_files("fp32", "int8")
    assert found.accepted() == ["fp32"]
    reason = r"int8 variant of .* was rejected at export \(cosine to fp32 on held-out texts least 0\.99\d*, below 1\.1;"
    with pytest.raises(ArtifactError, match=reason):
        found.variant("int8")
    with pytest.raises(ArtifactError, match=reason):
        Embedder(found.folder, precision="int8", provider="cpu")
    assert Embedder(found.folder, provider="cpu").encode("text").shape == (32,)


def test_fp32_that_fails_verification_is_not_published(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRECISIONS["fp32"].floors, "cosine", IMPOSSIBLE)
    with pytest.raises(ParityError, match="fp32: cosine to transformers fp32"):
        publish(small, Request(tmp_path / "out", ("fp32",), verify=True))
    assert not (tmp_path / "out").exists()


def test_weights_beyond_float16_are_refused_in_float16_only(tmp_path: Path, small_folder: Path) -> None:
    """An overflow is an error with a reason, and fp32 of the same checkpoint is fine."""
    folder = tmp_path / "model"
    shutil.copytree(small_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["layers.0.mlp.gate_proj.weight"][0, 0] = 1e5  # no power of two is folded into it
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint = open_checkpoint(str(folder))
    with pytest.raises((ParityError, ExportError), match="fp16"):
        publish(checkpoint, Request(tmp_path / "out", ("fp32", "fp16")))
    assert not (tmp_path / "out").exists()
    assert publish(checkpoint, Request(tmp_path / "out", ("fp32",))).accepted() == ["fp32"]


def test_a_disk_too_small_is_known_before_anything_is_written(
    tmp_path: Path, small: Checkpoint, fp32_only: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12_345_678))
    with pytest.raises(ExportError, match=r"has 12,345,678 bytes free, this export needs [\d,]+;") as caught:
        publish(small, Request(tmp_path / "out", ("fp32",)))
    found = re.search(r"needs ([\d,]+)", str(caught.value))
    assert found is not None
    tensors = fp32_only.folder / "fp32" / "model.onnx.data"
    assert int(found[1].replace(",", "")) >= tensors.stat().st_size + SPARE_BYTES - 64 * 4096
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("model.onnx*"))


def test_a_second_export_to_the_same_folder_is_refused(tmp_path: Path, small: Checkpoint) -> None:
    with (
        FileLock(tmp_path / ".out.lock"),
        pytest.raises(ExportError, match=f"another process is writing {tmp_path / 'out'}"),
    ):
        publish(small, Request(tmp_path / "out", ("fp32",)))
    assert not (tmp_path / "out").exists()
    assert publish(small, Request(tmp_path / "out", ("fp32",))).accepted() == ["fp32"]


def test_an_export_that_was_killed_goes_on_with_what_it_had_finished(
    tmp_path: Path, checkpoint_folder: Path, artifact: Artifact
) -> None:
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    export = start_export(checkpoint_folder, out, "fp32", "fp16", "int8")
    with export:
        wait_until(export, lambda: (partial / "partial.json").is_file() and b"fp32" in _read(partial / "partial.json"))
        export.send_signal(signal.SIGKILL)
    assert export.returncode == -signal.SIGKILL
    assert not out.exists()
    finished = (partial / "fp32" / "model.onnx.data").stat()
    found = publish(open_checkpoint(str(checkpoint_folder)), Request(out, ("fp32", "fp16", "int8")))
    reused = (out / "fp32" / "model.onnx.data").stat()
    assert (reused.st_ino, reused.st_mtime_ns) == (finished.st_ino, finished.st_mtime_ns)
    assert set(contents(out)) == expected_files("fp32", "fp16", "int8")
    for precision in found.manifest.variants:
        assert hashes(found, precision) == hashes(artifact, precision)
    assert names_beside(out) == ["out"]


def _read(file: Path) -> bytes:
    """A file's content, or nothing while it is being replaced."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def test_an_unfinished_variant_that_is_no_longer_wanted_is_not_published(
    tmp_path: Path, small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export killed while it wrote fp16, then run again for fp32 alone."""
    monkeypatch.setitem(PRECISIONS["int8"].floors, "cosine", IMPOSSIBLE)
    with pytest.raises(ParityError):
        publish(small, Request(tmp_path / "out", ("fp32", "int8")))
    unfinished = tmp_path / ".out.partial" / "fp16"
    unfinished.mkdir()
    (unfinished / "model.onnx.data").write_bytes(b"half")
    found = publish(small, Request(tmp_path / "out", ("fp32",)))
    assert set(contents(found.folder)) == expected_files("fp32")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"created_by": "quoit 0.0.0", "weights_sha256": "", "files": {}}'])
def test_a_leftover_of_another_kind_is_not_taken_up(tmp_path: Path, small: Checkpoint, content: bytes) -> None:
    leftover = tmp_path / ".out.partial"
    (leftover / "fp32").mkdir(parents=True)
    (leftover / "fp32" / "model.onnx").write_bytes(b"other")
    (leftover / "partial.json").write_bytes(content)
    found = publish(small, Request(tmp_path / "out", ("fp32",)))
    assert set(contents(found.folder)) == expected_files("fp32")
    assert all((found.folder / name).stat().st_size > 5 for name in expected_files("fp32"))


def test_an_interrupted_export_ends_quietly_and_leaves_nothing_published(
    tmp_path: Path, checkpoint_folder: Path
) -> None:
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    export = start_export(checkpoint_folder, out, "fp32", "fp16", "int8")
    wait_until(export, (partial / "fp32").is_dir)
    export.send_signal(signal.SIGINT)
    stdout, stderr = export.communicate(timeout=SECONDS)
    assert export.returncode == 130
    assert stderr == "quoit-export: interrupted; the same command goes on where it stopped\n"
    assert stdout == ""
    assert not out.exists()


def test_a_write_that_fails_is_an_error_with_a_reason(tmp_path: Path, small_folder: Path) -> None:
    """A limit on the size of files stands for a disk that fills up midway."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (15 << 20, 15 << 20)); "
        "from quoit_export.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, str(small_folder), str(tmp_path / "out")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert "Traceback" not in found.stderr
    assert found.returncode == 2
    assert found.stderr.startswith("quoit-export: ")
    assert not (tmp_path / "out").exists()


def test_kept_files_are_moved_not_copied(small: Checkpoint, published: Artifact) -> None:
    """Adding a precision takes no second copy of what is there, and leaves no second name of it."""
    tensors = published.folder / "fp32" / "model.onnx.data"
    before = tensors.stat()
    publish(small, Request(published.folder, ("int8",)))
    after = tensors.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)


PAIRS = [("What is the capital of China?", "The capital of China is Beijing."), ("gravity", "猫が眠る"), ("", "")]
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 151_669}


RERANKERS: dict[str, Callable[[], Any]] = {
    "tied": lambda: make_reranker(**TINY),
    "untied": lambda: make_reranker(**TINY, tie_word_embeddings=False),
    "classifier": lambda: make_classifier(**TINY),
}


@pytest.fixture(params=list(RERANKERS))
def reranker_folder(request: pytest.FixtureRequest, tmp_path: Path, plain_tokenizer_file: Path) -> Path:
    """A reranker's checkpoint, with each of the heads it may have."""
    return save_rerank_checkpoint(tmp_path / "checkpoint", plain_tokenizer_file, RERANKERS[request.param]())


def transformers_logits(folder: Path, rows: list[Any]) -> Any:
    """logit(yes) - logit(no) of rows of ids, or the one label's logit, by transformers in float32."""
    classifies = "Qwen3ForSequenceClassification" in (folder / "config.json").read_text()
    kind: Any = Qwen3ForSequenceClassification if classifies else Qwen3ForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = [model(input_ids=torch.tensor([row.tolist()])).logits[0] for row in rows]
    if classifies:
        return np.array([float(found[0]) for found in logits])
    return np.array([float(found[-1, 9693] - found[-1, 2152]) for found in logits])


def test_a_reranker_with_any_head_is_exported_and_scores_as_transformers_does(
    tmp_path: Path, reranker_folder: Path
) -> None:
    checkpoint = open_checkpoint(str(reranker_folder))
    found = publish(checkpoint, Request(tmp_path / "out", ("fp32", "int8"), verify=True))
    assert found.manifest.task == "rerank"
    assert found.manifest.contract == checkpoint.contract
    assert set(contents(found.folder)) == expected_files("fp32", "int8")
    native = find_kernels().graphs
    measured: dict[Precision, list[tuple[Measure, str, int]]] = {
        name: [(one.measure, one.reference, one.samples) for one in variant.parity]
        for name, variant in found.manifest.variants.items()
    }
    assert measured == {
        "fp32": [
            *[("agreement", "transformers fp32", 128), ("spearman", "transformers fp32", 4)],
            *[("agreement", "fp32", 128), ("spearman", "fp32", 4)] * bool(native),
        ],
        "int8": (3 + len(native)) * [("agreement", "fp32", 128), ("spearman", "fp32", 4)],
    }
    reranker = Reranker(found, precision="fp32", provider="cpu")
    texts = [f"<Instruct>: {reranker.contract.instruction}\n<Query>: {q}\n<Document>: {d}" for q, d in PAIRS]
    expected = transformers_logits(reranker_folder, reranker.pipeline.tokenizer.encode(texts).ids)
    assert expected.std() > 0.01, "the pairs' scores differ"
    np.testing.assert_allclose(reranker.predict(PAIRS, activation="logit"), expected, atol=1e-5)


@pytest.mark.parametrize("measure", ["agreement", "spearman"])
def test_a_reranker_below_either_floor_is_not_published(
    tmp_path: Path, plain_tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch, measure: Measure
) -> None:
    folder = save_rerank_checkpoint(tmp_path / "checkpoint", plain_tokenizer_file, make_reranker(**TINY))
    monkeypatch.setitem(PRECISIONS["int8"].floors, measure, IMPOSSIBLE)
    with pytest.raises(
        ParityError,
        match=rf"nothing was published, int8: {measure} to fp32 on held-out texts least 0\.\d*, below 1\.1;",
    ):
        publish(open_checkpoint(str(folder)), Request(tmp_path / "out", ("fp32", "int8")))
    assert not (tmp_path / "out").exists()


def test_a_tied_embedding_checkpoint_is_exported_for_reranking_when_asked_to(
    tmp_path: Path, small_folder: Path, fp32_only: Artifact
) -> None:
    """Its answers are rows of the embeddings; the decoder's tensors are those of the embedding artifact."""
    folder = without_modules(shutil.copytree(small_folder, tmp_path / small_folder.name))
    checkpoint = open_checkpoint(str(folder), task="rerank")
    found = publish(checkpoint, Request(tmp_path / "out", ("fp32",), verify=True))
    assert found.manifest.task == "rerank"
    assert found.manifest.source == fp32_only.manifest.source
    assert found.manifest.variants["fp32"].accepted
    assert Reranker(found, provider="cpu").predict(PAIRS).shape == (3,)


def test_the_same_checkpoint_for_another_task_is_another_artifact(
    tmp_path: Path, small_folder: Path, published: Artifact
) -> None:
    before = contents(published.folder)
    folder = without_modules(shutil.copytree(small_folder, tmp_path / "checkpoint"))
    with pytest.raises(ExportError, match="--overwrite"):
        publish(open_checkpoint(str(folder), task="rerank"), Request(published.folder, ("fp32",)))
    assert contents(published.folder) == before


def test_scores_that_are_not_finite_are_an_error_that_names_the_layer(
    tmp_path: Path, plain_tokenizer_file: Path
) -> None:
    """Weights that float32 holds, and whose products it does not."""
    model = make_reranker(**TINY)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.fill_(3e38)
    folder = save_rerank_checkpoint(tmp_path / "checkpoint", plain_tokenizer_file, model)
    with pytest.raises(ParityError, match=r"fp32 gives values that are not finite, first in layers\.0\.mlp"):
        publish(open_checkpoint(str(folder)), Request(tmp_path / "out", ("fp32",)))
    assert not (tmp_path / "out").exists()


def test_int4_is_smaller_and_measured_like_int8(tmp_path: Path) -> None:
    """On the small real model; four bits lose more, and still rank alike."""
    out = tmp_path / "out"
    artifact = publish(open_checkpoint(str(SMALL_REAL)), Request(out, ("int8", "int4")))
    int8, int4 = artifact.variant("int8"), artifact.variant("int4")
    assert int4.quantization is not None
    assert int4.quantization.int8_layers, "else it needs no graph for CPUs that saturate"
    assert set(contents(out)) == expected_files("int8", "int4") | {
        f"int4/{GRAPHS[name]}" for name in ("saturating", "native")
    }
    sizes = [sum(record.bytes for record in variant.files) for variant in (int8, int4)]
    assert sizes[1] < 0.86 * sizes[0], "the token table is most of either"
    measured = {(parity.measure, parity.texts): parity for parity in int4.parity}
    assert {texts for _, texts in measured} == {"held-out", "calibration", "snippet"}
    assert measured["cosine", "held-out"].mean > 0.993
    assert measured["ranking", "held-out"].mean > 0.97
    assert int8.quantization is not None
    assert int4.quantization.errors.keys() == int8.quantization.errors.keys()
    assert len(int4.quantization.int8_layers) < 0.25 * LINEARS
    embedder = Embedder(artifact, precision="int4", provider="cpu")
    texts = held_out().texts[:12]
    together = embedder.encode(texts)
    np.testing.assert_array_equal(np.concatenate([embedder.encode([text]) for text in texts]), together)


def test_what_is_below_its_floor_is_made_again_with_its_worst_layers_in_more_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small real model's int4 has 0.9966 by itself; here that is not enough."""
    monkeypatch.setitem(PRECISIONS["int4"].mean_floors, "cosine", 0.9968)
    checkpoint = open_checkpoint(str(SMALL_REAL))
    variant = publish(checkpoint, Request(tmp_path / "out", ("int4",))).variant("int4")
    assert variant.accepted
    assert variant.parity[0].mean >= 0.9968
    assert variant.quantization is not None
    assert LINEARS / 4 <= len(variant.quantization.int8_layers) <= 0.7 * LINEARS
    assert variant.quantization.float32_layers == ()
    assert len(variant.quantization.errors) > 1, "of all methods that were compared"
