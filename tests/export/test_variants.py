"""Which method an int8 variant is written by, where the answers to the calibration texts decide."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quoit.artifact import Artifact
from quoit_export.build import variants
from quoit_export.build.staging import Staging, bare_manifest
from quoit_export.build.trials import Outcome, Trials
from quoit_export.build.variants import Making, with_variants
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.quantize.calibration import CalibrationTexts, built_in_texts
from quoit_export.quantize.methods import METHODS, Method, Ranking

TEXTS = CalibrationTexts("a few", built_in_texts().texts[:12])
FIRST, SECOND = Method(0.5), Method(0.5, rotated=True)


@pytest.mark.parametrize(
    ("outcomes", "written", "tried"),
    [
        ([(2.0, True)], FIRST, 1),
        ([(2.0, False), (1.0, False)], SECOND, 2),
        ([(1.0, False), (2.0, False)], FIRST, 2),
        ([(1.0, False), (2.0, True)], SECOND, 2),
    ],
    ids=["the first is good", "the second errs less", "the first errs less", "only the second is good"],
)
def test_the_finalist_that_errs_least_is_kept(
    outcomes: list[tuple[float, bool]],
    written: Method,
    tried: int,
    tmp_path: Path,
    byte_checkpoint_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Written and measured by the real export; only what the trials say is set."""
    said: Iterator[tuple[float, bool]] = iter(outcomes)
    seen: list[str] = []

    def choose(trials: Trials) -> Outcome:
        seen.append(trials.plan.record.method)
        return Outcome(trials.plan, *next(said))

    monkeypatch.setattr(Trials, "choose", choose)
    monkeypatch.setattr(variants, "rank_methods", lambda *_: Ranking((FIRST, SECOND), {m.name: 0.1 for m in METHODS}))
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    staging = Staging.open(tmp_path / "staging", checkpoint, bare_manifest(checkpoint))
    measured = Making(checkpoint, staging, TEXTS).make(["fp32", "int8"])
    manifest = with_variants(staging, measured)
    variant = manifest.variants["int8"]
    assert len(seen) == tried
    assert variant.quantization is not None
    assert variant.quantization.method == written.name
    assert measured["int8"][0].mean > 0.99, "the graph and the tensors are of one method"
    artifact = Artifact(staging.folder, manifest)
    assert [artifact.verify(record).is_file() for record in variant.files]
    assert "int8" in staging.partial.settled


def test_with_second_passes_there_are_no_fixed_steps(
    tmp_path: Path, byte_checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A massive row would be clipped in one, and the trials have none."""

    def choose(trials: Trials) -> Outcome:
        record = trials.plan.record
        assert record.steps
        assert trials.with_passes({}, {}).record == record
        input_name = next(iter(trials.uneven.ratios))
        changed = trials.with_passes({input_name: 0.5}, {}).record
        assert (changed.second_pass, changed.steps) == ({input_name: 0.5}, {})
        return Outcome(trials.plan, 0.0, good=True)

    monkeypatch.setattr(Trials, "choose", choose)
    monkeypatch.setattr(variants, "rank_methods", lambda *_: Ranking((SECOND,), {SECOND.name: 0.1}))
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    staging = Staging.open(tmp_path / "staging", checkpoint, bare_manifest(checkpoint))
    Making(checkpoint, staging, TEXTS).make(["fp32", "int8"])
    assert "int8" in staging.partial.settled


def test_finalists_are_the_best_method_and_the_best_of_the_other_kind() -> None:
    plain, smooth, rotated, heads = Method(), Method(0.5), Method(rotated=True), Method(0.5, rotated=True, heads=True)
    assert Ranking((smooth, plain, heads, rotated), {}).finalists == (smooth, heads)
    assert Ranking((heads, rotated, plain), {}).finalists == (heads, plain)
    assert Ranking((plain, smooth), {}).finalists == (plain,)
