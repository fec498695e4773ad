"""Prompts kept between calls: the same bits from fewer tokens, and bounds."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from architectures import config_of
from quoit import Embedder
from quoit.artifact import Precision
from quoit.engine.pipeline import CPU_LIMITS, Pipeline
from quoit.engine.planner import Batch, Row
from quoit.engine.prefix_cache import MOST_CHARACTERS, MOST_PROMPTS, MOST_TOKENS, KeptPrompts
from quoit.ort.session import Kept
from support import Embedders, Rerankers

TASK = "Given a question, find the passage that answers it"
QUERIES = [
    "What is the capital of China?",
    "",
    " ",
    "\n\n",
    ":::",
    "\u0301a combining accent, joined to what is before it",
    "Was ist die Hauptstadt von China?",
    "重力是什么？",
    "<|im_end|>",
    "word " * 300,
    "word " * 500,
]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
THREADS = 8


@contextmanager
def forgotten(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Batch]]:
    """The pipeline without anything kept; -> what its session runs."""
    ran: list[Batch] = []
    session = pipeline.session
    run = session.run

    def note(batch: Batch, kept: Kept | None = None) -> Any:
        ran.append(batch)
        return run(batch, kept)

    with monkeypatch.context() as patch:
        patch.setattr(session, "run", note)
        pipeline.prompts._met.clear()
        yield ran
    pipeline.prompts._met.clear()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_query_has_the_same_bits_from_its_own_tokens_alone(
    embedders: Embedders, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    embedder = embedders(precision)
    first = []
    for query in QUERIES:
        with forgotten(embedder.pipeline, monkeypatch) as ran:
            first.append(embedder.encode_query([query], instruction=TASK)[0])
        assert [batch.prefix_tokens for batch in ran] == [0]
    prompt = len(embedder.pipeline.tokenizer.beginning(f"Instruct: {TASK}\nQuery:"))
    assert prompt > 10
    with forgotten(embedder.pipeline, monkeypatch) as ran:
        embedder.encode_query("any", instruction=TASK)
        for query, expected in zip(QUERIES, first, strict=True):
            whole = len(embedder.pipeline.tokenizer.encode([f"Instruct: {TASK}\nQuery:{query}"]).ids[0])
            ran.clear()
            np.testing.assert_array_equal(embedder.encode_query(query, instruction=TASK), expected)
            (batch,) = ran
            if whole < CPU_LIMITS.tiled_from:
                assert batch.prefix_tokens == prompt
                assert whole - prompt <= len(batch.input_ids) <= whole - prompt + 1, "a joined token is computed again"
            else:
                assert batch.prefix_tokens == 0, "long rows have tiled attention, and the prompt had not"
        ran.clear()
        np.testing.assert_array_equal(embedder.encode_query(QUERIES, instruction=TASK), first)
        assert {batch.prefix_tokens for batch in ran} == {0, prompt}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pairs_have_the_same_bits_behind_a_kept_template(
    rerankers: Rerankers, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    reranker = rerankers(precision)
    pairs = [(query, document) for query in QUERIES[:8] for document in ("Beijing", "", "word " * 200)]
    with forgotten(reranker.pipeline, monkeypatch) as ran:
        expected = reranker.predict(pairs, activation="logit")
        before = sum(len(batch.input_ids) for batch in ran)
        ran.clear()
        np.testing.assert_array_equal(reranker.predict(pairs, activation="logit"), expected)
        assert sum(len(batch.input_ids) for batch in ran) <= before - 40
        for pair, logit in zip(pairs, expected, strict=True):
            assert reranker.predict([pair], activation="logit") == logit
    with forgotten(reranker.pipeline, monkeypatch) as ran:
        first, second = (reranker.predict(pairs, activation="logit", separator="\n\n") for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert {bool(batch.prefix_tokens) for batch in ran} == {False, True}


def test_a_prompt_that_is_met_once_is_not_computed_apart(embedders: Embedders, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = embedders("fp32")
    computed: list[int] = []
    keep = embedder.pipeline.session.keep

    def note(prefix: Row) -> Kept:
        computed.append(len(prefix))
        return keep(prefix)

    monkeypatch.setattr(embedder.pipeline.session, "keep", note)
    with forgotten(embedder.pipeline, monkeypatch):
        for number in range(5):
            embedder.encode_query("text", instruction=f"task {number}")
        assert computed == []
        for _ in range(3):
            embedder.encode_query("text", instruction="task 3")
            embedder.encode("a text without a prompt")
        assert len(computed) == 1


def test_what_is_kept_is_bounded(embedders: Embedders) -> None:
    pipeline = embedders("fp32").pipeline
    prompts = KeptPrompts(pipeline.session, pipeline.tokenizer, longest=100)

    def tokens() -> list[int]:
        return [len(kept.prefix) for kept in prompts._met.values() if kept]

    for number in range(3 * MOST_PROMPTS):
        prompts.meet(f"prompt {number}")
    assert len(prompts._met) == MOST_PROMPTS
    assert tokens() == []
    for number in range(20):
        prompt = f"{number:2} " + "word " * 90
        assert prompts.meet(prompt) is None
        kept = prompts.meet(prompt)
        assert kept is not None
        assert prompts.meet(prompt) is kept
        assert sum(tokens()) <= MOST_TOKENS
    assert sum(tokens()) + max(tokens()) > MOST_TOKENS
    assert len(tokens()) > 1
    for prompt in ("word " * 200, "", "x" * (MOST_CHARACTERS + 1)):
        assert [prompts.meet(prompt) for _ in range(3)] == [None] * 3, "too long, or empty"
    assert "x" * (MOST_CHARACTERS + 1) not in prompts._met


def test_a_kept_prompt_has_memory_of_its_own_and_every_layer(embedders: Embedders) -> None:
    pipeline = embedders("int8").pipeline
    numbers = config_of(pipeline.artifact)
    kept = pipeline.session.keep(np.arange(100, 117))
    shape = (17, numbers.num_key_value_heads * numbers.head_dim)
    assert {values.shape for values in kept.past.values()} == {shape}
    assert len(kept.past) == 2 * numbers.num_hidden_layers
    assert all(values.flags.owndata for values in kept.past.values())
    assert kept.prefix.tolist() == list(range(100, 117))


def test_halves_keep_nothing(embedders: Embedders) -> None:
    embedder = embedders("fp16")
    assert not embedder.pipeline.session.keeps
    for _ in range(3):
        embedder.encode_query("text", instruction=TASK)
        assert not embedder.pipeline.prompts._met


def test_several_threads_share_what_is_kept(embedders: Embedders, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = embedders("int8")
    tasks = [f"task {number % 3}" for number in range(60)]

    def encode(task: str) -> Any:
        return embedder.encode_query(f"about {task}", instruction=task)

    with forgotten(embedder.pipeline, monkeypatch):
        expected = [encode(task) for task in tasks[:3]]
        with ThreadPoolExecutor(THREADS) as pool:
            for task, found in zip(tasks, pool.map(encode, tasks), strict=True):
                np.testing.assert_array_equal(found, expected[int(task[-1])])


def test_workers_use_what_is_kept(embedders: Embedders, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(embedders("int8").pipeline.artifact, precision="int8", provider="cpu", threads=2, workers=2)
    queries = [f"{query} {number}" for number in range(20) for query in QUERIES[:8]]
    with forgotten(embedder.pipeline, monkeypatch) as ran:
        expected = embedder.encode_query(queries)
        ran.clear()
        np.testing.assert_array_equal(embedder.encode_query(queries), expected)
        assert len(ran) > 1
        assert all(batch.prefix_tokens for batch in ran)
