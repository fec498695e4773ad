"""The study of second passes, run on the smallest shape, and its arithmetic."""

from pathlib import Path

import msgspec
import pytest

from bench.studies.second_pass import (
    DECODER,
    EXPORTED,
    ON_ONNXRUNTIME,
    PLAIN,
    decoder_setting,
    row_shares,
    settings,
    study,
    summarize_shares,
    with_setting,
)
from bench.studies.tables import second_pass_table
from bench.studies.turns import Work, order, rate, summarize
from quoit import Embedder
from quoit.artifact import Calibration, Quantization, read_artifact
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.families.qwen3 import architecture_of
from quoit_export.precisions.int8 import ALL_ROWS
from random_checkpoint import SHAPES

TINY = architecture_of(SHAPES["tiny"])
SEPARATE = Work(["a", "b"], [3, 5], "queries")
TOGETHER = Work(["a", "b"], [3, 5])


def chosen(second_pass: dict[str, float]) -> Quantization:
    calibration = Calibration("built-in", "0" * 64, 1, 1)
    return Quantization("plain", None, None, (), (), {}, False, calibration, {"plain": 0.0}, second_pass=second_pass)


def test_a_decoder_needs_uneven_rows_of_products() -> None:
    setting = decoder_setting(TINY)
    assert setting == pytest.approx({f"layers.{layer}.mlp.down_proj": 12 / 160**0.5 for layer in range(3)})


def test_what_export_chose_is_measured_if_it_is_anything() -> None:
    assert list(settings(TINY, chosen({}))) == [PLAIN, DECODER]
    some = {"layers.0.mlp.down_proj": 1.0}
    assert settings(TINY, chosen(some))[EXPORTED] == some


def test_layers_in_float32_have_no_second_pass() -> None:
    floats = msgspec.structs.replace(chosen({}), float32_layers=("layers.0.mlp.down_proj",))
    assert set(decoder_setting(TINY)) - set(settings(TINY, floats)[DECODER]) == {"layers.0.mlp.down_proj"}


def test_a_rate_counts_passes_and_a_round_goes_forwards_then_backwards() -> None:
    assert rate(SEPARATE, [0.5, 0.5]) == 8
    assert rate(SEPARATE, [0.5, 0.5, 0.5, 0.5]) == 8
    assert rate(TOGETHER, [0.5, 0.5]) == 16
    assert [order("ab", number) for number in range(3)] == [["a", "b"], ["b", "a"], ["a", "b"]]


def test_a_ratio_is_that_of_a_round() -> None:
    found = summarize(TOGETHER, {PLAIN: [100.0, 200.0, 400.0], DECODER: [90.0, 160.0, 400.0]}, PLAIN)
    assert found["over_plain"] == {DECODER: [0.9, 0.85, 0.95]}
    assert found["tokens_per_second"] == {PLAIN: 200.0, DECODER: 160.0}


def test_shares_of_rows_are_means_over_layers_and_cost_what_stands_behind_them() -> None:
    assert summarize_shares(TINY, {})["multiply_adds"] == 0
    every = {one.name: 1.0 for one in TINY.inputs}
    assert summarize_shares(TINY, every)["multiply_adds"] == pytest.approx(1)
    found = summarize_shares(TINY, {"layers.0.mlp.down_proj": 0.5, "layers.2.mlp.down_proj": 0.5})
    assert found["rows"] == {"q_proj": 0, "o_proj": 0, "gate_proj": 0, "down_proj": 0.25}


def test_a_shape_is_exported_and_measured_with_and_without(tmp_path: Path) -> None:
    result = study("tiny", tmp_path, threads=1, rounds=1, names=["query"])
    assert result["int8"]["parity"]["held-out cosine"][1] > 0.98
    assert set(result["second_passes"]) >= {PLAIN, DECODER}
    assert 0 < result["second_passes"][DECODER]["multiply_adds"] < 0.5
    rates = result["workloads"]["query"]["tokens_per_second"]
    assert all(value > 0 for value in rates.values())
    assert set(rates) == {name + suffix for name in result["second_passes"] for suffix in ("", ON_ONNXRUNTIME)}
    lines = second_pass_table(result)
    assert lines[2].startswith("| native kernels, no second pass | ")
    assert lines[-1].startswith("| as a trained decoder needs | ")
    other_graphs(tmp_path)


def other_graphs(folder: Path) -> None:
    """A graph with other second passes counts its rows, and one without any has the published one's bits."""
    checkpoint, artifact = open_checkpoint(str(folder / "checkpoint")), read_artifact(folder / "artifact")
    texts = ["a river", "the mouth of a river, and its banks.", "Wie tief ist der See?"]
    made = artifact.variant("int8").quantization
    assert made is not None
    int8 = [one.name for one in TINY.inputs if not one.of_answers and one.name not in made.float32_layers]
    setting = dict(zip(int8, (1e-6, 1.5, ALL_ROWS), strict=False))
    changed = with_setting(checkpoint, artifact, setting, folder / "changed")
    assert row_shares(changed, setting, texts) == pytest.approx(dict(zip(setting, (1.0, 0.0, 1.0), strict=True)))
    vectors = {
        name: Embedder(one, precision="int8", provider="cpu").encode(texts)
        for name, one in (("published", artifact), ("plain", read_artifact(folder / PLAIN)), ("changed", changed))
    }
    assert (vectors["plain"] == vectors["published"]).all() == (not made.second_pass)
    assert not (vectors["changed"] == vectors["plain"]).all()
    assert (vectors["changed"] * vectors["plain"]).sum(axis=1).min() > 0.99
