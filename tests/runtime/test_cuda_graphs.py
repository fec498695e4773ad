"""Captured runs: what is bound and copied for them, on buffers in the CPU's memory; capturing itself needs a GPU."""

from collections.abc import Sequence

import numpy as np
import pytest

from quoit import Embedder, InputError, Reranker
from quoit.artifact import Artifact, Precision
from quoit.engine.layouts import packed, padded
from quoit.engine.planner import Limits, batch_of, plan_batches
from quoit.ort.cuda_graphs import LENGTHS, NOT_CAPTURED, CudaGraphs, run_options
from quoit.ort.graph_inputs import InputContract, Inputs
from quoit.ort.providers import choose
from quoit.ort.session import Answers, Session

LIMITS = Limits(1 << 16, 1 << 17)


def text(length: int, seed: int = 0) -> Inputs:
    """The packed inputs of one row of so many tokens."""
    return packed.make_inputs(batch_of(np.random.default_rng([seed, length]).integers(0, 250, length)))


def fixed_shape(inputs: Inputs, lengths: Sequence[int]) -> Inputs | None:
    """What `padded.fixed_shape` is for CUDA's graphs, for those that a CPU runs."""
    ids = inputs["input_ids"]
    if len(inputs["row_lengths"]) != 1 or len(ids) > lengths[-1]:
        return None
    length = next(one for one in lengths if one >= len(ids))
    return packed.make_inputs(batch_of(padded.continued(ids, length))) | {"last_row": inputs["last_row"]}


def cuda_graphs(session: Session) -> CudaGraphs:
    """Those of a session on the CPU, which binds and copies as CUDA's does and captures nothing."""
    return CudaGraphs(session._session, "cpu", InputContract(packed.REQUIRED, fixed_shape=fixed_shape))


def answer(session: Session, inputs: Inputs) -> Answers:
    """The answer by a run of fixed shape."""
    found = cuda_graphs(session).run(inputs)
    assert found is not None
    return found


@pytest.fixture(scope="module", params=["fp32", "int8"])
def session(request: pytest.FixtureRequest, byte_artifact: Artifact) -> Session:
    """A session on the CPU."""
    precision: Precision = request.param
    return Session(byte_artifact, choose(byte_artifact, "cpu", precision), packed.LAYOUT.contract, threads=1)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33, 64, 100, 255, 256])
def test_a_continued_text_has_its_own_answer(session: Session, length: int) -> None:
    found, expected = answer(session, text(length)), session.run(text(length))
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_buffers_are_bound_once_for_each_length_and_hold_nothing_of_the_text_before(session: Session) -> None:
    """Lengths in turns, so that shorter texts follow longer ones in the same buffers."""
    ours = cuda_graphs(session)
    texts = [text(length, seed) for seed in range(3) for length in (16, 9, 200, 1, 130)]
    answers = [ours.run(inputs) for inputs in texts]
    for inputs, found in zip(texts, answers, strict=True):
        assert found is not None
        np.testing.assert_allclose(found, session.run(inputs), rtol=1e-4, atol=1e-5)
    assert ours.captured == len({16, 256})


def test_an_answer_is_the_callers_own(session: Session) -> None:
    ours = cuda_graphs(session)
    first = ours.run(text(7))
    assert first is not None
    before = first.copy()
    ours.run(text(8, seed=1))
    assert np.array_equal(first, before)


def test_a_score_has_no_width(rerank_artifact: Artifact) -> None:
    session = Session(rerank_artifact, choose(rerank_artifact, "cpu", "fp32"), packed.LAYOUT.contract, threads=1)
    found = answer(session, text(40))
    assert found.shape == (1,)
    np.testing.assert_allclose(found, session.run(text(40)), rtol=1e-4, atol=1e-4)


def test_other_runs_are_not_captured(session: Session) -> None:
    ours = cuda_graphs(session)
    (two,) = plan_batches([[1, 2], [3]], LIMITS)
    assert ours.run(text(LENGTHS[-1] + 1)) is None
    assert ours.run(packed.make_inputs(two)) is None
    without = CudaGraphs(session._session, "cpu", packed.LAYOUT.contract)
    assert without.run(text(3)) is None, "the layout has no fixed shapes"
    assert ours.captured == without.captured == 0


def test_a_run_is_captured_under_its_number_or_not_at_all() -> None:
    options = [run_options(), run_options("3")]
    assert [one.get_run_config_entry("gpu_graph_id") for one in options] == [NOT_CAPTURED, "3"]


@pytest.mark.parametrize("kind", [Embedder, Reranker])
def test_a_cpu_has_no_cuda_graphs(
    kind: type[Embedder | Reranker], byte_artifact: Artifact, rerank_artifact: Artifact
) -> None:
    artifact = byte_artifact if kind is Embedder else rerank_artifact
    with pytest.raises(InputError, match=r"cuda_graphs True needs CUDA, and the provider here is 'cpu' \(asked for\)"):
        kind(artifact, provider="cpu", cuda_graphs=True)
