"""The stages one by one, for pytest-benchmark: `pytest bench --benchmark-only`.

Compare with an earlier run of the same machine: `--benchmark-autosave`, later `--benchmark-compare`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.workloads import log_normal
from quoit import Embedder
from quoit.artifact import Artifact, Precision
from quoit.batches import plan_batches
from quoit.pipeline import CPU_LIMITS
from quoit.pooling import Output, finish
from quoit_export.checkpoint import open_checkpoint
from quoit_export.parity import parity_texts
from quoit_export.publish import Request, publish
from random_checkpoint import SHAPES, write_checkpoint

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
MIX = log_normal(1000, seed=11)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny random shape: what surrounds the model weighs most here."""
    folder = tmp_path_factory.mktemp("bench")
    write_checkpoint(folder / "checkpoint", SHAPES["tiny"])
    return publish(open_checkpoint(str(folder / "checkpoint")), Request(folder / "artifact", PRECISIONS))


@pytest.fixture(scope="session", params=PRECISIONS)
def embedder(request: pytest.FixtureRequest, artifact: Artifact) -> Embedder:
    return Embedder(artifact, precision=request.param, provider="cpu")


def test_tokenization(benchmark: BenchmarkFixture, artifact: Artifact) -> None:
    tokenizer = Embedder(artifact, precision="fp32", provider="cpu").pipeline.tokenizer
    texts = parity_texts() * 10
    run(benchmark, lambda: tokenizer.encode(texts), texts=len(texts))


def test_packing(benchmark: BenchmarkFixture) -> None:
    run(benchmark, lambda: list(plan_batches(MIX.rows, CPU_LIMITS)), texts=len(MIX.rows), tokens=MIX.tokens)


def test_session(benchmark: BenchmarkFixture, embedder: Embedder) -> None:
    batch = next(plan_batches(MIX.rows, CPU_LIMITS))
    run(benchmark, lambda: embedder.pipeline.session.run(batch), tokens=len(batch.input_ids))


def test_pooling(benchmark: BenchmarkFixture) -> None:
    states = np.random.default_rng(0).standard_normal((1000, 1024), np.float32)
    run(benchmark, lambda: finish(states, Output(dim=256)), texts=len(states))


def test_end_to_end(benchmark: BenchmarkFixture, embedder: Embedder) -> None:
    texts = parity_texts()
    run(benchmark, lambda: embedder.encode_query(texts), texts=len(texts))


def run(benchmark: BenchmarkFixture, work: Callable[[], Any], **amounts: int) -> None:
    """Times `work`, and stores what it worked on beside the times."""
    benchmark.extra_info.update(amounts)
    assert benchmark(work) is not None
