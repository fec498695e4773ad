"""CUDA: why it cannot run here, how large a batch may be, and on a GPU, that it computes what a CPU does."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from quoit import Embedder, ProviderError, Reranker
from quoit.artifact import Artifact, GraphName, Precision
from quoit.engine.limits import CPU_LIMITS, cuda_limits
from quoit.engine.planner import plan_batches
from quoit.ort.cuda import (
    MAX_STREAM_TOKENS,
    MIN_STREAM_TOKENS,
    explain_absence,
    free_bytes,
    installed,
    prepare,
    stream_tokens,
    token_bytes,
)
from quoit.ort.providers import onnxruntime_version
from quoit.ort.session import CUDA_OPTIONS
from quoit.ort.sessions import ONNX_NAMES
from quoit.precisions import PREFERRED
from quoit_export.families.qwen3.tensors import costs_of
from quoit_export.precisions.table import PRECISIONS
from quoit_export.verify.parity import Questions, answer, held_out, parity_texts
from random_checkpoint import SHAPES

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
GIB = 1 << 30

ROUNDING = {
    "fp16": PRECISIONS["fp16"].floors["cosine"],
    "bf16": PRECISIONS["bf16"].floors["cosine"],
    "int4": PRECISIONS["bf16"].floors["cosine"],
}
"""Cosine to the same variant's vectors by other kernels; int4's values are bfloat16 there."""
SMALLEST, LARGEST = costs_of(SHAPES["0.6b"]), costs_of(SHAPES["8b"])


def put_driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A driver's program that answers as the genuine one does."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_two_distributions_are_a_conflict() -> None:
    """Each overwrites the other's files, whichever provider that leaves."""
    reason = explain_absence(["CPUExecutionProvider"], ["onnxruntime-gpu 1.31.1", "onnxruntime 1.32.0"])
    assert reason.startswith("onnxruntime-gpu 1.31.1 and onnxruntime 1.32.0 are both installed")
    assert "pip uninstall onnxruntime onnxruntime-gpu`, then `pip install 'quoit[cuda]'" in reason


def test_one_distribution_says_what_it_offers() -> None:
    reason = explain_absence(["CPUExecutionProvider"], ["onnxruntime 1.32.0"])
    assert reason.startswith("this onnxruntime offers CPUExecutionProvider; ")


def test_what_is_installed_is_what_runs() -> None:
    assert onnxruntime_version() == " and ".join(installed())
    assert any(name.endswith(onnxruntime.__version__) for name in installed())


@pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime offers CUDA")
def test_a_missing_library_is_named_by_the_loader(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProviderError, match=r"cannot run here: .*onnxruntime_providers_\w+\.\w+.*; install the driver"):
        prepare(onnxruntime)
    assert capfd.readouterr().out == ""


def test_without_a_driver_there_is_no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProviderError, match="no NVIDIA driver, since there is no nvidia-smi"):
        free_bytes()


@pytest.mark.parametrize(
    ("visible", "device"), [(None, "0"), ("2,3", "2"), ("GPU-8932f937-d72c", "GPU-8932f937-d72c"), (" 1", "1")]
)
def test_memory_is_that_of_the_first_visible_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, device: str
) -> None:
    put_driver(tmp_path, monkeypatch, f'test "$2" = "{device}" && echo 40960')
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert free_bytes() == 40 * GIB


@pytest.mark.parametrize("script", ["echo 'No devices were found'; exit 6", "echo '[N/A]'", "exit 0"])
def test_a_driver_without_a_device_is_refused_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    put_driver(tmp_path, monkeypatch, script)
    with pytest.raises(ProviderError, match=r"nvidia-smi tells of no device '\w+': .*; check the driver"):
        free_bytes()


def test_a_batch_is_as_large_as_memory_allows_within_bounds() -> None:
    sizes = [stream_tokens(SMALLEST, free) for free in (0, GIB, 4 * GIB, 80 * GIB)]
    assert sizes == sorted(sizes)
    assert sizes[0] == MIN_STREAM_TOKENS
    assert sizes[-1] == MAX_STREAM_TOKENS
    for costs in (SMALLEST, LARGEST):
        for free in (4 * GIB, 8 * GIB, 24 * GIB):
            tokens = stream_tokens(costs, free)
            assert tokens * token_bytes(costs) <= free / 2
            assert tokens % MIN_STREAM_TOKENS == 0
    assert stream_tokens(LARGEST, 24 * GIB) >= 16_384


def test_cuda_takes_larger_batches_than_a_cpu_without_tiles_or_much_padding() -> None:
    limits = cuda_limits(SMALLEST, 24 * GIB)
    assert limits.stream_tokens > CPU_LIMITS.stream_tokens
    assert limits.rectangle_tokens == limits.stream_tokens
    assert limits.tiled_from is None
    assert not limits.share_prefixes
    lengths = np.random.default_rng(0).lognormal(4.5, 0.7, 2000).astype(int) + 1
    batches = list(plan_batches([[number] * length for number, length in enumerate(lengths)], limits))
    assert sum(len(batch.rows) * batch.width for batch in batches) < 1.13 * lengths.sum()
    assert len(batches) < 3 * lengths.sum() / limits.stream_tokens + 10


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="this onnxruntime offers no CUDAExecutionProvider")
@pytest.mark.parametrize("precision", PREFERRED["cuda"])
class TestOnCuda:
    """What only a GPU can tell."""

    def embedder(self, artifact: Artifact, precision: Precision) -> Embedder:
        return Embedder(artifact.folder, precision=precision, provider="cuda")

    def test_cuda_agrees_with_fp32(self, half_artifact: Artifact, precision: Precision) -> None:
        texts = [*parity_texts(), "", " ".join(parity_texts())[:2000]]
        exact = Embedder(half_artifact.folder, precision="fp32", provider="cpu")
        cosines = (self.embedder(half_artifact, precision).encode(texts) * exact.encode(texts)).sum(axis=1)
        assert cosines.min() >= PRECISIONS[precision].floors["cosine"]

    def test_cuda_agrees_with_what_was_measured_for_it_on_a_cpu(
        self, half_artifact: Artifact, precision: Precision
    ) -> None:
        """The emulation errs about as much as CUDA does, so its parity says what CUDA's is."""
        exact = Embedder(half_artifact.folder, precision="fp32", provider="cpu").encode(parity_texts())
        graph: GraphName = "emulated" if precision == "int4" else "cpu"
        (emulated,) = answer(half_artifact, precision, [Questions.plan(half_artifact, held_out())], graph)
        found = self.embedder(half_artifact, precision).encode(parity_texts())
        errors = [1 - float((vectors * exact).sum(axis=1).mean()) for vectors in (found, emulated)]
        assert errors[0] <= 3 * errors[1] + 1e-6

    def test_a_batch_does_not_matter_beyond_rounding(self, half_artifact: Artifact, precision: Precision) -> None:
        """The CPU's bit-identity does not hold: matrix products take other kernels for other sizes."""
        embedder, texts = self.embedder(half_artifact, precision), parity_texts()[:32]
        alone = np.stack([embedder.encode(text) for text in texts])
        assert (alone * embedder.encode(texts)).sum(axis=1).min() >= ROUNDING[precision]

    def test_a_captured_run_answers_as_others_do(self, half_artifact: Artifact, precision: Precision) -> None:
        """Every length twice, the second time replayed, with longer texts and batches in between."""
        embedder = self.embedder(half_artifact, precision)
        plain = Embedder(half_artifact.folder, precision=precision, provider="cuda", cuda_graphs=False)
        texts = ["a " * count for count in (3, 12, 30, 60, 120, 500, 5, 50)]
        for _ in range(2):
            found = np.stack([embedder.encode(text) for text in texts])
            assert (found * plain.encode(texts)).sum(axis=1).min() >= ROUNDING[precision]
            assert (embedder.encode(texts) * found).sum(axis=1).min() >= ROUNDING[precision]

    def test_captured_runs_are_safe_in_several_threads(self, half_artifact: Artifact, precision: Precision) -> None:
        embedder = self.embedder(half_artifact, precision)
        texts = [f"{number} " * (1 + 9 * number) for number in range(12)]
        alone = np.stack([embedder.encode(text) for text in texts])
        with ThreadPoolExecutor(4) as pool:
            found = np.stack(list(pool.map(embedder.encode, texts)))
        assert np.array_equal(found, alone)

    def test_texts_of_all_lengths_agree_whatever_is_beside_them(
        self, half_artifact: Artifact, precision: Precision
    ) -> None:
        """Batches with padding behind shorter rows, and texts that begin alike."""
        embedder = self.embedder(half_artifact, precision)
        texts = [("a b c d e " * 60)[:length] + end for length in range(1, 300, 7) for end in ("", " x")]
        alone = np.stack([embedder.encode(text) for text in texts])
        assert (alone * embedder.encode(texts)).sum(axis=1).min() >= ROUNDING[precision]

    def test_the_provider_has_taken_its_options(self, half_artifact: Artifact, precision: Precision) -> None:
        session = self.embedder(half_artifact, precision).pipeline.session._session
        taken = session.get_provider_options()[ONNX_NAMES["cuda"]]
        assert {name: taken[name] for name in CUDA_OPTIONS} == CUDA_OPTIONS
        assert taken["enable_cuda_graph"] == "1"

    def test_a_long_text_fits(self, half_artifact: Artifact, precision: Precision) -> None:
        vector = self.embedder(half_artifact, precision).encode("a long text " * 500)
        assert np.isfinite(vector).all()

    def test_the_limits_follow_the_free_memory(self, half_artifact: Artifact, precision: Precision) -> None:
        limits = self.embedder(half_artifact, precision).pipeline.limits
        assert MIN_STREAM_TOKENS <= limits.stream_tokens <= MAX_STREAM_TOKENS
        assert re.fullmatch(r"\d+", str(free_bytes()))


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="this onnxruntime offers no CUDAExecutionProvider")
def test_a_reranker_on_cuda_agrees_with_fp32(rerank_artifact: Artifact) -> None:
    """In batches and alone, by captured runs."""
    exact = Reranker(rerank_artifact.folder, precision="fp32", provider="cpu")
    on_cuda = Reranker(rerank_artifact.folder, precision="fp16", provider="cuda")
    pairs = [("a query", text) for text in parity_texts()[:40]]
    expected = exact.predict(pairs)
    np.testing.assert_allclose(on_cuda.predict(pairs), expected, atol=1 - PRECISIONS["fp16"].floors["agreement"])
    alone = np.concatenate([on_cuda.predict([pair]) for pair in pairs])
    np.testing.assert_allclose(alone, expected, atol=1 - PRECISIONS["fp16"].floors["agreement"])
