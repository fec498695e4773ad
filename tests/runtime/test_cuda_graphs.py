"""Captured runs: what is bound and copied for them, on buffers in the CPU's memory; capturing itself needs a GPU."""

import numpy as np
import onnxruntime
import pytest

from quoit import Embedder, InputError, Reranker
from quoit.artifact import Artifact, Precision
from quoit.engine.planner import Batch, Limits, plan_batches
from quoit.ort.cuda_graphs import LENGTHS, NOT_CAPTURED, Replays, continued, run_options
from quoit.ort.session import Session, choose, feed

LIMITS = Limits(1 << 16, 1 << 17, 1 << 16)


def text(length: int, seed: int = 0) -> Batch:
    """A batch of one text of so many tokens."""
    (batch,) = plan_batches([np.random.default_rng([seed, length]).integers(0, 250, length)], LIMITS)
    return batch


def replays(session: Session) -> Replays:
    """Those of a session on the CPU, which binds and copies as CUDA's does and captures nothing."""
    return Replays(onnxruntime, session._session, "cpu", feed)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def session(request: pytest.FixtureRequest, byte_artifact: Artifact) -> Session:
    """A session on the CPU."""
    precision: Precision = request.param
    return Session(byte_artifact, choose(byte_artifact, "cpu", precision), threads=1)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33, 64, 100, 255, 256])
def test_a_continued_text_has_its_own_answer(session: Session, length: int) -> None:
    batch = text(length)
    found, expected = replays(session).run(batch), session.run(batch)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_buffers_are_bound_once_for_each_length_and_hold_nothing_of_the_text_before(session: Session) -> None:
    """Lengths in turns, so that shorter texts follow longer ones in the same buffers."""
    ours = replays(session)
    batches = [text(length, seed) for seed in range(3) for length in (16, 9, 200, 1, 130)]
    answers = [ours.run(batch) for batch in batches]
    for batch, found in zip(batches, answers, strict=True):
        np.testing.assert_allclose(found, session.run(batch), rtol=1e-4, atol=1e-5)
    assert set(ours._bound) == {16, 256}


def test_an_answer_is_the_callers_own(session: Session) -> None:
    ours = replays(session)
    first = ours.run(text(7))
    before = first.copy()
    ours.run(text(8, seed=1))
    assert np.array_equal(first, before)


def test_a_score_has_no_width(rerank_artifact: Artifact) -> None:
    session = Session(rerank_artifact, choose(rerank_artifact, "cpu", "fp32"), threads=1)
    batch = text(40)
    found = replays(session).run(batch)
    assert found.shape == (1,)
    np.testing.assert_allclose(found, session.run(batch), rtol=1e-4, atol=1e-4)


def test_one_short_text_is_taken_and_nothing_else() -> None:
    assert Replays.takes(text(1))
    assert Replays.takes(text(LENGTHS[-1]))
    assert not Replays.takes(text(LENGTHS[-1] + 1))
    (two,) = plan_batches([[1, 2], [3]], LIMITS)
    assert not Replays.takes(two)
    (behind,) = plan_batches([[1, 2, 3]], LIMITS, [1, 2])
    assert not Replays.takes(behind)


def test_a_text_is_continued_behind_its_end() -> None:
    assert continued(np.array([5, 6]), 4).tolist() == [5, 6, 6, 6]
    assert continued(np.array([5, 6]), 2).tolist() == [5, 6]


def test_a_run_is_captured_under_its_number_or_not_at_all() -> None:
    options = [run_options(onnxruntime), run_options(onnxruntime, "3")]
    assert [one.get_run_config_entry("gpu_graph_id") for one in options] == [NOT_CAPTURED, "3"]


@pytest.mark.parametrize("kind", [Embedder, Reranker])
def test_a_cpu_has_no_cuda_graphs(
    kind: type[Embedder | Reranker], byte_artifact: Artifact, rerank_artifact: Artifact
) -> None:
    artifact = byte_artifact if kind is Embedder else rerank_artifact
    with pytest.raises(InputError, match=r"cuda_graphs True needs CUDA, and the provider here is 'cpu' \(asked for\)"):
        kind(artifact, provider="cpu", cuda_graphs=True)
