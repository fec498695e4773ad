"""One loaded model a process, while anybody holds it."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quoit
from quoit import Embedder, Reranker
from quoit.artifact import Artifact
from quoit.sharing import _models, shared


def test_the_same_artifact_and_options_are_one_model(byte_artifact: Artifact, tmp_path: Path) -> None:
    first = shared(byte_artifact, precision="fp32", provider="cpu")
    assert isinstance(first, Embedder)
    assert shared(str(byte_artifact.folder), provider="cpu", precision="fp32") is first
    link = tmp_path / "link"
    link.symlink_to(byte_artifact.folder)
    assert quoit.shared(link, precision="fp32", provider="cpu") is first
    assert shared(byte_artifact, precision="int8", provider="cpu") is not first
    assert shared(byte_artifact, precision="fp32", provider="cpu", max_tokens=64) is not first


def test_a_rerank_artifact_gives_a_reranker(rerank_artifact: Artifact) -> None:
    assert isinstance(shared(rerank_artifact, precision="int8", provider="cpu"), Reranker)


def test_threads_that_ask_at_once_load_it_once(byte_artifact: Artifact) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shared(byte_artifact, provider="cpu", max_tokens=100), range(8)))
    assert len({id(each) for each in found}) == 1


def test_what_nobody_holds_is_released(byte_artifact: Artifact) -> None:
    model = shared(byte_artifact, provider="cpu", max_tokens=101)
    before = len(_models)
    del model
    gc.collect()
    assert len(_models) == before - 1


def test_an_error_is_that_of_the_class_and_comes_again(byte_artifact: Artifact) -> None:
    unknown: dict[str, Any] = {"batch": 3}
    for _ in range(2):
        with pytest.raises(TypeError, match=r"Embedder\(\) has no option 'batch'"):
            shared(byte_artifact, provider="cpu", **unknown)
    np.testing.assert_array_equal(
        shared(byte_artifact, provider="cpu").encode("a"),  # type: ignore[union-attr]
        Embedder(byte_artifact, provider="cpu").encode("a"),
    )
