"""The stages one by one, for pytest-benchmark: `pytest bench --benchmark-only`.

Compare with the stored times, or with others of the same machine: `--benchmark-compare=`; see bench/README.md.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.corpora.texts import read_texts
from bench.corpora.tokens import TokenWorkload, equal, log_normal
from quoit import Embedder
from quoit.artifact import Artifact, Precision
from quoit.engine.limits import CPU_LIMITS
from quoit.engine.planner import plan_batches
from quoit.engine.pooling import Dtype, Output, calibration_ranges, finish
from quoit.text.tokenizer import TextTokenizer
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish
from random_checkpoint import SHAPES, write_checkpoint

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
MIX = log_normal(1000, seed=11)
SHAPES_OF_BATCHES = (equal(1, 16, 1), equal(1, 128, 2), equal(8, 64, 3), equal(1, 512, 4), log_normal(16, 5))
TEXTS = [record["text"] for record in read_texts()[:200]]
LANGUAGES = ("en", "de", "ru", "ja")
SHARED_TOKENS = 90


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny random shape: what surrounds the model weighs most here."""
    folder = tmp_path_factory.mktemp("bench")
    write_checkpoint(folder / "checkpoint", SHAPES["tiny"])
    return publish(open_checkpoint(str(folder / "checkpoint")), Request(folder / "artifact", PRECISIONS))


@pytest.fixture(scope="session")
def embedders(artifact: Artifact) -> Callable[[Precision], Embedder]:
    return cache(lambda precision: Embedder(artifact, precision=precision, provider="cpu"))


@pytest.fixture(scope="session")
def tokenizer(artifact: Artifact) -> TextTokenizer:
    return TextTokenizer.load(artifact.path(artifact.manifest.tokenizer), artifact.manifest)


@pytest.mark.parametrize("language", LANGUAGES)
def test_tokenization(benchmark: BenchmarkFixture, tokenizer: TextTokenizer, language: str) -> None:
    texts = [record["text"] for record in read_texts() if record["language"] == language]
    run(benchmark, lambda: tokenizer.encode(texts), texts=len(texts), characters=sum(map(len, texts)))


def test_tokenization_of_one_query(benchmark: BenchmarkFixture, tokenizer: TextTokenizer) -> None:
    run(benchmark, lambda: tokenizer.encode(["What is the capital of China?"]), texts=1)


def test_packing(benchmark: BenchmarkFixture) -> None:
    run(benchmark, lambda: list(plan_batches(MIX.rows, CPU_LIMITS)), texts=len(MIX.rows), tokens=MIX.tokens)


def test_packing_what_begins_alike(benchmark: BenchmarkFixture) -> None:
    """As under an instruction, or for reranking."""
    rows = [[*range(SHARED_TOKENS), *row] for row in MIX.rows]
    run(benchmark, lambda: list(plan_batches(rows, CPU_LIMITS)), texts=len(rows), tokens=sum(map(len, rows)))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("workload", SHAPES_OF_BATCHES, ids=lambda workload: workload.name)
def test_session(
    benchmark: BenchmarkFixture,
    embedders: Callable[[Precision], Embedder],
    precision: Precision,
    workload: TokenWorkload,
) -> None:
    pipeline = embedders(precision).pipeline
    batch = next(plan_batches(workload.rows, CPU_LIMITS))
    inputs = pipeline.layout.make_inputs(batch)
    run(benchmark, lambda: pipeline.session.run(inputs), tokens=batch.stream_tokens)


@pytest.mark.parametrize("dim", [256, 1024])
@pytest.mark.parametrize("dtype", ["float32", "int8", "ubinary"])
def test_pooling(benchmark: BenchmarkFixture, dtype: Dtype, dim: int) -> None:
    states = np.random.default_rng(0).standard_normal((1000, 1024), np.float32)
    ranges = calibration_ranges(finish(states, Output(dim=dim))) if dtype == "int8" else None
    output = Output(dim=dim, dtype=dtype, ranges=ranges)
    run(benchmark, lambda: finish(states, output), texts=len(states))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_end_to_end(
    benchmark: BenchmarkFixture, embedders: Callable[[Precision], Embedder], precision: Precision
) -> None:
    embedder = embedders(precision)
    run(benchmark, lambda: embedder.encode_document(TEXTS), texts=len(TEXTS))


def test_one_query_end_to_end(benchmark: BenchmarkFixture, embedders: Callable[[Precision], Embedder]) -> None:
    embedder = embedders("int8")
    run(benchmark, lambda: embedder.encode_query("What is the capital of China?"), texts=1)


def run(benchmark: BenchmarkFixture, work: Callable[[], Any], **amounts: int) -> None:
    """Times `work`, and stores what it worked on beside the times."""
    benchmark.extra_info.update(amounts)
    assert benchmark(work) is not None
