"""The study of native kernels, on the smallest shape."""

from pathlib import Path

import pytest

from bench.studies.kernels import NATIVE, STARTS, WITHOUT, WORKERS, study
from bench.studies.tables import kernels_table
from quoit.ort.kernels import find_kernels


@pytest.mark.skipif(not find_kernels().products, reason="no native products here")
def test_a_shape_is_measured_with_and_without(tmp_path: Path) -> None:
    result = study("tiny", tmp_path, threads=2, rounds=1, names=["query", "8x128"])
    assert set(result["int8"]["query"]["each"]) == {NATIVE, WITHOUT}
    assert set(result["int8"]["8x128"]["each"]) == {NATIVE, WITHOUT, NATIVE + WORKERS, WITHOUT + WORKERS}
    assert set(result["fp32"]) == {"query"}
    assert set(result["uneven"]) == {"query", "8x128"}
    assert set(result["reranker"]["100 documents"]["each"]) == {NATIVE, WITHOUT}
    assert all(found[1] > 0.99 for found in result["cosine_to_fp32"].values())
    assert [len(found) for found in result["starts"].values()] == [STARTS, STARTS]
    assert len(kernels_table(result)) == 2 + 6
