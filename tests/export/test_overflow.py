"""A checkpoint whose values stop being finite is refused, and the error names the block where they do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch

from oracle import make_model, make_reranker, save_checkpoint, save_rerank_checkpoint
from quoit.artifact import Precision, read_artifact
from quoit.text.tokenizer import Ids, TextTokenizer
from quoit_export.build.staging import GRAPH, Staging, bare_manifest
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.cli import main
from quoit_export.errors import ParityError
from quoit_export.export import Request, publish
from quoit_export.verify.overflow import first_nonfinite

TEXTS = ["The capital of China is Beijing.", "import os", ""]


def scale(model: Any, factors: dict[str, float]) -> Any:
    """Multiplies weights, which stay finite."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, factor in factors.items():
            parameters[f"{name}.weight"].mul_(factor)
    assert all(torch.isfinite(parameter).all() for parameter in parameters.values())
    return model


MLP_BEYOND_FLOAT32 = {"layers.1.mlp.up_proj": 1e30, "layers.1.mlp.down_proj": 1e30}
ATTENTION_BEYOND_FLOAT16 = {"layers.2.self_attn.v_proj": 1e5, "layers.2.self_attn.o_proj": 1e-5}
"""No power of two is folded into the values."""

Save = Callable[[dict[str, float]], Path]


@pytest.fixture
def save(tmp_path: Path, tokenizer_file: Path) -> Save:
    """Writes the small model with some weights multiplied."""
    return lambda factors: save_checkpoint(tmp_path / "model", tokenizer_file, scale(make_model(), factors))


def assert_nothing_published(folder: Path) -> None:
    assert not (folder / "out").exists()
    assert list(folder.rglob("*.lock")) == []


@pytest.mark.parametrize("keep_rejected", [False, True])
def test_an_mlp_beyond_float32_is_named(save: Save, tmp_path: Path, keep_rejected: bool) -> None:
    checkpoint = open_checkpoint(str(save(MLP_BEYOND_FLOAT32)))
    message = "nothing was published, fp32 gives values that are not finite, first in layers.1.mlp; use another"
    with pytest.raises(ParityError, match=message):
        publish(checkpoint, Request(tmp_path / "out", ("fp32",), keep_rejected=keep_rejected))
    assert_nothing_published(tmp_path)


def test_attention_beyond_float16_is_named_and_fp32_is_kept_for_the_next_export(save: Save, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(save(ATTENTION_BEYOND_FLOAT16)))
    message = r"nothing was published, fp16 gives values that are not finite, first in layers\.2\.self_attn; use"
    with pytest.raises(ParityError, match=message):
        publish(checkpoint, Request(tmp_path / "out", ("fp32", "fp16")))
    assert_nothing_published(tmp_path)
    (fp32,) = (file for file in tmp_path.rglob("fp32/*.data"))
    written = fp32.stat().st_mtime_ns
    artifact = publish(checkpoint, Request(tmp_path / "out", ("fp32",)))
    assert artifact.accepted() == ["fp32"]
    assert (tmp_path / "out" / "fp32" / fp32.name).stat().st_mtime_ns == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_a_reranker_beyond_float32_is_named(tmp_path: Path, plain_tokenizer_file: Path) -> None:
    factors = {f"model.{name}": factor for name, factor in MLP_BEYOND_FLOAT32.items()}
    folder = save_rerank_checkpoint(tmp_path / "model", plain_tokenizer_file, scale(make_reranker(), factors))
    with pytest.raises(ParityError, match=r"fp32 gives values that are not finite, first in layers\.1\.mlp;"):
        publish(open_checkpoint(str(folder)), Request(tmp_path / "out", ("fp32",)))
    assert_nothing_published(tmp_path)


def test_an_artifact_that_was_there_stays(save: Save, tmp_path: Path) -> None:
    """A variant that overflows does not cost the variants that are published."""
    checkpoint = open_checkpoint(str(save(ATTENTION_BEYOND_FLOAT16)))
    before = publish(checkpoint, Request(tmp_path / "out", ("fp32",)))
    with pytest.raises(ParityError, match="fp16 gives values that are not finite"):
        publish(checkpoint, Request(tmp_path / "out", ("fp16",)))
    assert read_artifact(tmp_path / "out").manifest == before.manifest
    for record in before.manifest.records():
        before.verify(record)


@pytest.mark.parametrize(
    ("factors", "precision", "block"),
    [
        (MLP_BEYOND_FLOAT32, "fp32", "layers.1.mlp"),
        (ATTENTION_BEYOND_FLOAT16, "fp16", "layers.2.self_attn"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    save: Save,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    factors: dict[str, float],
    precision: Precision,
    block: str,
) -> None:
    folder = save(factors)
    capfd.readouterr()
    code = main([str(folder), str(tmp_path / "out"), "--precision", precision])
    printed, report = capfd.readouterr()
    assert (code, printed) == (2, "")
    assert report.startswith(f"quoit-export: nothing was published, {precision} gives values that are not finite")
    assert f"first in {block};" in report
    assert report.count("\n") == 1
    assert_nothing_published(tmp_path)


def write_variant(checkpoint_folder: Path, folder: Path, precision: Precision) -> tuple[Path, list[Ids]]:
    """A variant's graph without any gate, and rows of ids to try on it."""
    checkpoint = open_checkpoint(str(checkpoint_folder))
    bare = bare_manifest(checkpoint)
    Staging.open(folder, checkpoint, bare).write_variant(checkpoint, precision)
    return folder / precision / GRAPH, TextTokenizer.load(checkpoint.tokenizer_file, bare).encode(TEXTS).ids


@pytest.mark.parametrize(
    ("factors", "precision", "block"),
    [
        ({}, "fp32", None),
        ({}, "int8", None),
        (ATTENTION_BEYOND_FLOAT16, "fp32", None),
        ({"layers.0.mlp.up_proj": 1e30, "layers.0.mlp.down_proj": 1e30}, "fp32", "layers.0.mlp"),
        ({"layers.2.mlp.up_proj": 1e30, "layers.2.mlp.down_proj": 1e30}, "fp32", "layers.2.mlp"),
        ({"layers.0.self_attn.v_proj": 1e30, "layers.0.self_attn.o_proj": 1e30}, "fp32", "layers.0.self_attn"),
        (MLP_BEYOND_FLOAT32, "int8", "layers.1.mlp"),
        ({"layers.1.self_attn.v_proj": 1e30, "layers.1.self_attn.o_proj": 1e30}, "int8", "layers.1.self_attn"),
    ],
)
def test_the_first_block_that_is_not_finite_is_found(
    save: Save, tmp_path: Path, factors: dict[str, float], precision: Precision, block: str | None
) -> None:
    graph, rows = write_variant(save(factors), tmp_path / "staging", precision)
    assert first_nonfinite(ir.load(graph), rows) == block
