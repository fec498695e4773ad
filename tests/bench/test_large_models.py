"""The script that measures the largest shapes, run on the smallest."""

from pathlib import Path

from bench.studies.large_models import PHASES, WAYS, measure


def test_a_shape_is_exported_loaded_and_measured(tmp_path: Path) -> None:
    """Each phase and each way of loading says its memory from a process of its own; loaded, it has those bits."""
    result = measure("tiny", tmp_path, threads=1)
    assert set(result["export"]["phases"]) == set(PHASES)
    assert all(phase["peak_bytes"] > 0 for phase in result["export"]["phases"].values())
    assert set(result["load"]) == set(WAYS)
    assert all(loaded["used"]["resident"] >= loaded["used"]["anonymous"] > 0 for loaded in result["load"].values())
    assert result["load"]["default"]["same_bits_as_measured"]
    assert result["int8"]["cosine_to_fp32"]["held-out"]["least"] > 0.99
    assert not (tmp_path / "checkpoint").exists()
