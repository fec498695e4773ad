"""What linear layers read: all tokens' maxima, some tokens' rows, and nothing left behind."""

import dataclasses
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from architectures import architecture_of
from quoit.artifact import Artifact, EmbeddingContract
from quoit.errors import InputError
from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE
from quoit.text.tokenizer import TextTokenizer
from quoit_export.build.staging import Staging, bare_manifest
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import ExportError
from quoit_export.quantize.calibration import (
    BUILT_IN,
    MAX_TEXTS,
    MAX_TOKENS,
    MIN_TEXTS,
    SAMPLED_ROWS,
    Activations,
    CalibrationTexts,
    built_in_texts,
    calibration_rows,
    observe,
    read_calibration_texts,
)
from quoit_export.verify.parity import load_variant, parity_texts, snippets
from support import SMALL

TEXTS = CalibrationTexts("a few", ("The capital of China is Beijing.", "import os", "猫が眠る", "gravity " * 30))


def hooked(model: Any, rows: list[Any]) -> dict[str, list[torch.Tensor]]:
    """What transformers' linear layers read, [tokens, in] for each row of ids."""
    found: dict[str, list[torch.Tensor]] = {}
    hooks = []
    for name in input_names_of(model):
        module = model.get_submodule(name)
        hooks.append(
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: found.setdefault(name, []).append(inputs[0][0])
            )
        )
    with torch.inference_mode():
        for row in rows:
            model(input_ids=torch.tensor([row.tolist()]))
    for hook in hooks:
        hook.remove()
    return found


def input_names_of(model: Any) -> list[str]:
    parts = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
    return [f"layers.{layer}.{part}" for layer in range(model.config.num_hidden_layers) for part in parts]


@pytest.fixture(scope="module")
def observed(artifact: Artifact) -> Activations:
    return observe(load_variant(artifact, "fp32"), architecture_of(artifact), calibration_rows(artifact, TEXTS))[0]


def test_maxima_are_those_of_transformers_over_all_tokens(
    artifact: Artifact, observed: Activations, reference_model: Any
) -> None:
    expected = hooked(reference_model, calibration_rows(artifact, TEXTS))
    assert list(observed.largest) == list(architecture_of(artifact).input) == list(expected)
    last = f"layers.{SMALL['num_hidden_layers'] - 1}."
    for name, texts in expected.items():
        # Behind the last attention only the texts' last tokens are computed.
        read = [text[-1:] if name.startswith(last) and not name.endswith("q_proj") else text for text in texts]
        most = torch.cat(read).abs().amax(dim=0).numpy()
        np.testing.assert_allclose(observed.largest[name], most, rtol=1e-4, atol=1e-5, err_msg=name)


def test_rows_are_evenly_spaced_tokens_with_the_first_and_the_last(
    artifact: Artifact, observed: Activations, reference_model: Any
) -> None:
    expected = hooked(reference_model, calibration_rows(artifact, TEXTS))
    name = "layers.1.mlp.down_proj"
    texts, rows = [text.numpy() for text in expected[name]], observed.rows[name]
    each = [min(len(text), SAMPLED_ROWS // len(texts)) for text in texts]
    assert len(rows) == sum(each)
    starts = np.cumsum([0, *each[:-1]])
    for text, start, count in zip(texts, starts, each, strict=True):
        np.testing.assert_allclose(rows[start], text[0], atol=1e-4)
        np.testing.assert_allclose(rows[start + count - 1], text[-1], atol=1e-4)
    assert len(observed.rows["layers.2.mlp.down_proj"]) == len(texts), "a row a text behind the last attention"


def test_observing_leaves_the_variant_as_it_was(artifact: Artifact) -> None:
    folder = artifact.folder / "fp32"
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    observe(load_variant(artifact, "fp32"), architecture_of(artifact), calibration_rows(artifact, TEXTS)[:1])
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_every_other_text_is_a_query(artifact: Artifact) -> None:
    rows = calibration_rows(artifact, TEXTS)
    assert len(rows) == len(TEXTS.texts)
    assert len(rows[1]) > len(rows[0]) - 5, "the instruction stands before it"
    assert rows[1][0] == rows[3][0] != rows[0][0]


@pytest.mark.parametrize(
    "prompts",
    [{}, {"document": "d: "}, {"passage": "p: "}, {"query": "q: ", "document": ""}, {"query": "", "document": ""}],
)
def test_texts_have_the_prompts_that_the_runtime_gives_them(artifact: Artifact, prompts: dict[str, str]) -> None:
    contract = artifact.manifest.contract
    assert isinstance(contract, EmbeddingContract)
    manifest = msgspec.structs.replace(artifact.manifest, contract=msgspec.structs.replace(contract, prompts=prompts))
    changed = dataclasses.replace(artifact, manifest=manifest)
    rows = calibration_rows(changed, TEXTS)
    tokenizer = TextTokenizer.load(artifact.path(artifact.manifest.tokenizer), manifest)
    official = INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK)
    before = (prompts.get("document", prompts.get("passage", "")), prompts.get("query", official))
    wanted = tokenizer.encode([before[index % 2] + text for index, text in enumerate(TEXTS.texts)]).ids
    assert [row.tolist() for row in rows] == [row.tolist() for row in wanted]


def test_a_rerankers_rows_are_pairs(rerank_artifact: Artifact) -> None:
    """The first text is judged for the last, and so on, each within the template."""
    rows = calibration_rows(rerank_artifact, TEXTS)
    assert len(rows) == len(TEXTS.texts)
    assert all(row[:20].tolist() == rows[0][:20].tolist() for row in rows)


def test_long_texts_are_cut(artifact: Artifact) -> None:
    long = CalibrationTexts("long", ("word " * 5000, "b", "c"))
    assert len(calibration_rows(artifact, long)[0]) == MAX_TOKENS


def test_the_built_in_texts_are_many_and_none_is_held_out() -> None:
    found = built_in_texts()
    assert found.source == BUILT_IN
    assert 60 <= len(found.texts) == len(set(found.texts))
    assert not set(found.texts) & set(parity_texts())
    assert not set(found.texts) & set(snippets().texts)
    assert all(found.texts)
    scripts = [("а", "я"), ("α", "ω"), ("א", "ת"), ("ا", "ي"), ("अ", "ह"), ("ก", "ฮ"), ("가", "힣"), ("一", "龥")]
    letters = "".join(found.texts)
    assert all(any(start <= letter <= end for letter in letters) for start, end in scripts)


def test_texts_are_read_from_a_file_once_each(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(["a", "", "b", "a", *(f"text {number}" for number in range(500))]))
    found = read_calibration_texts(file)
    assert found.source == "mine.txt"
    assert len(found.texts) == MAX_TEXTS
    assert found.texts[:3] == ("a", "b", "text 0")


def test_texts_are_read_from_every_kind_of_file_and_from_folders(tmp_path: Path) -> None:
    """Those that are missing are left out as empty ones are."""
    texts = [f"text {number}" for number in range(MIN_TEXTS)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in [None, *texts[1:], ""])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.txt").write_text(texts[0])
    found = read_calibration_texts(tmp_path)
    assert found.texts == tuple(texts)


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "few.txt"
    file.write_text("\n".join(f"text {number}" for number in range(MIN_TEXTS - 1)))
    with pytest.raises(ExportError, match=rf"few\.txt has {MIN_TEXTS - 1} different texts"):
        read_calibration_texts(file)
    with pytest.raises(InputError, match="is no file"):
        read_calibration_texts(tmp_path / "absent.txt")


def test_texts_are_told_apart_by_what_they_say() -> None:
    texts = CalibrationTexts("one", ("a", "b"))
    assert texts.sha256 == CalibrationTexts("other", ("a", "b")).sha256
    assert texts.sha256 != CalibrationTexts("one", ("a b",)).sha256


@pytest.mark.parametrize("large", [("gate", "up"), ("up", "down"), ()])
def test_values_that_are_not_finite_are_seen(
    tmp_path: Path, byte_checkpoint_folder: Path, large: tuple[str, ...]
) -> None:
    """In what a linear layer reads, or only in the answers: the last down_proj's products reach no other layer."""
    shutil.copytree(byte_checkpoint_folder, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    for name in large:
        weight = tensors[f"layers.1.mlp.{name}_proj.weight"].astype(np.float32)
        tensors[f"layers.1.mlp.{name}_proj.weight"] = weight * np.float32(1e25)
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    checkpoint = open_checkpoint(str(tmp_path / "model"))
    staging = Staging.open(tmp_path / "staging", checkpoint, bare_manifest(checkpoint))
    staging.write_variant(checkpoint, "fp32")
    variant = msgspec.structs.replace(staging.partial.variants["fp32"], accepted=True)
    manifest = msgspec.structs.replace(staging.partial.bare, variants={"fp32": variant})
    artifact = Artifact(staging.folder, manifest)
    rows = calibration_rows(artifact, TEXTS)
    assert observe(load_variant(artifact, "fp32"), architecture_of(artifact), rows)[0].finite is (not large)
