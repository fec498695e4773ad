"""Artifacts whose graphs run on native kernels: near to onnxruntime's, the same bits in any batch, and not silently."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from command_line import PATIENCE
from quoit import Embedder, Reranker
from quoit.artifact import Artifact, Precision
from quoit.errors import ArtifactError, ProviderError
from quoit.ort.kernels import FOLDER, REASON, find_kernels
from quoit_export.verify.parity import parity_texts
from support import with_variants

KERNELS = find_kernels()
pytestmark = pytest.mark.skipif(KERNELS.library is None, reason=f"no native kernels here: {KERNELS.reason}")
TEXTS = parity_texts()[:40]
RUNNING: dict[Precision, str] = {
    "fp32": "native_attention",
    "fp16": "cpu",
    "int8": "native" if KERNELS.products else "native_attention",
}


@pytest.mark.parametrize("precision", RUNNING)
def test_the_graph_with_the_kernels_runs_where_there_is_one(artifact: Artifact, precision: Precision) -> None:
    embedder = Embedder(artifact, precision=precision, provider="cpu")
    session = embedder.pipeline.session
    assert session.graph == RUNNING[precision]
    assert (session.kernels is None) == (session.graph == "cpu")
    without = Embedder(artifact, precision=precision, provider="cpu", kernels=False)
    assert without.pipeline.session.kernels is None
    assert without.pipeline.describe_kernels() == "none: kernels=False switches them off"
    near = np.sum(embedder.encode(TEXTS) * without.encode(TEXTS), axis=1)
    assert near.min() > (0.99 if precision == "int8" else 1 - 1e-6)


def test_answers_are_as_near_to_fp32_as_without(artifact: Artifact) -> None:
    exact = Embedder(artifact, precision="fp32", provider="cpu", kernels=False).encode(TEXTS)
    with_kernels, without = (
        np.mean(
            np.sum(Embedder(artifact, precision="int8", provider="cpu", kernels=kernels).encode(TEXTS) * exact, axis=1)
        )
        for kernels in (True, False)
    )
    assert with_kernels > without - 1e-4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_scores_are_near(rerank_artifact: Artifact, precision: Precision) -> None:
    pairs = [("capital of China", text) for text in TEXTS]
    scores = [
        Reranker(rerank_artifact, precision=precision, provider="cpu", kernels=kernels).predict(pairs)
        for kernels in (True, False)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5 if precision == "fp32" else 0.02)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("threads", [1, 2, 4, 8])
def test_a_text_does_not_see_its_batch(artifact: Artifact, precision: Precision, threads: int) -> None:
    """Nor the prompt that is kept from the second call on, nor the number of threads."""
    embedder = Embedder(artifact, precision=precision, provider="cpu", threads=threads)
    one = Embedder(artifact, precision=precision, provider="cpu", threads=1)
    together = embedder.encode_query(TEXTS)
    np.testing.assert_array_equal(embedder.encode_query(TEXTS), together)
    np.testing.assert_array_equal(np.concatenate([one.encode_query([text]) for text in TEXTS]), together)


def test_sessions_beside_each_other_do_not_see_each_other(artifact: Artifact, rerank_artifact: Artifact) -> None:
    """Three models with eight threads each, asked at once; one is closed and made anew meanwhile."""
    models = [Embedder(artifact, precision=name, provider="cpu", threads=8) for name in ("int8", "fp32")]
    judge = Reranker(rerank_artifact, precision="int8", provider="cpu", threads=8)
    pairs = [("capital of China", text) for text in TEXTS]
    expected = [*(model.encode_query(TEXTS) for model in models), judge.predict(pairs)]

    def made_anew() -> Any:
        with Embedder(artifact, precision="int8", provider="cpu", threads=2) as model:
            return model.encode_query(TEXTS)

    calls: list[Callable[[], Any]] = [
        *(partial(model.encode_query, TEXTS) for model in models),
        partial(judge.predict, pairs),
        made_anew,
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        for _ in range(5):
            found = [pool.submit(call) for call in calls]
            for answer, wanted in zip(found, [*expected, expected[0]], strict=True):
                np.testing.assert_array_equal(answer.result(), wanted)


ENDLESS = """
import sys
from quoit import Embedder
model = Embedder(sys.argv[1], precision=sys.argv[2], provider="cpu", threads=2)
assert model.pipeline.session.kernels is not None
print("running", flush=True)
while True:
    model.encode_document([word * 300 for word in ("one ", "two ", "three ")])
"""


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_of_the_kernels(artifact: Artifact, precision: Precision, sent: signal.Signals) -> None:
    """As Python ends: by KeyboardInterrupt or by the signal itself, and by no other one."""
    command = [sys.executable, "-c", ENDLESS, str(artifact.folder), precision]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        time.sleep(0.2)
        process.send_signal(sent)
        _, report = process.communicate(timeout=PATIENCE)
    assert process.returncode == -sent
    assert ("KeyboardInterrupt" in report) == (sent is signal.SIGINT)


def test_the_instructions_are_part_of_the_fingerprint(artifact: Artifact) -> None:
    prints = {
        Embedder(artifact, precision="int8", provider="cpu", kernels=kernels).fingerprint("")
        for kernels in (True, False)
    }
    assert len(prints) == 2


def test_an_artifact_without_such_a_graph_says_so(artifact: Artifact) -> None:
    variant = artifact.variant("fp32")
    older = with_variants(artifact, fp32=replace(variant, graphs={"cpu": variant.graphs["cpu"]}))
    embedder = Embedder(older, precision="fp32", provider="cpu")
    assert embedder.pipeline.session.graph == "cpu"
    assert embedder.pipeline.describe_kernels() == "none: the artifact has no graph with them; export it again"


def test_a_damaged_graph_is_refused_and_nothing_else_runs(artifact: Artifact, tmp_path: Path) -> None:
    """There is no silent way back to onnxruntime's own operators."""
    folder = tmp_path / "copy"
    shutil.copytree(artifact.folder, folder)
    file = folder / artifact.variant("fp32").graphs["native_attention"].file.path
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(ArtifactError, match="native_attention"):
        Embedder(folder, precision="fp32", provider="cpu")


def test_a_build_without_kernels_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quoit.ort.kernels.FOLDER", tmp_path)
    monkeypatch.setattr("quoit.ort.kernels._load", find_kernels.__globals__["_load"].__wrapped__)
    assert find_kernels().reason == "this installation was built without them"
    (tmp_path / REASON).write_text("their compiler has no wheel for this platform\n")
    assert find_kernels().reason == "this installation has none: their compiler has no wheel for this platform"
    (tmp_path / REASON).unlink()
    (tmp_path / "libquoit_kernels.so").write_bytes(b"no library")
    assert find_kernels().reason.startswith("their library cannot be loaded (")
    with pytest.raises(ProviderError, match="native kernels were asked for"):
        find_kernels(True)
    assert tmp_path != FOLDER
