"""Prompts cached between calls: the same bits from fewer tokens, and bounds."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from architectures import config_of
from quoit import Embedder
from quoit.artifact import Precision
from quoit.engine.limits import TILED_FROM
from quoit.engine.pipeline import Pipeline
from quoit.engine.prefix_cache import DEFAULT_TOKENS, MAX_CHARACTERS, MAX_PROMPTS, PrefixCache
from quoit.ort.graph_inputs import Inputs
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


def stream_tokens(inputs: Inputs) -> int:
    """How many tokens a run computes."""
    return len(inputs["input_ids"])


def prefix_tokens(inputs: Inputs) -> int:
    """How many tokens a run takes from the cache."""
    return len(inputs["past_key_values.0.key"]) if "past_key_values.0.key" in inputs else 0


@contextmanager
def cleared(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Inputs]]:
    """The pipeline with an empty cache; -> what its session runs."""
    ran: list[Inputs] = []
    session = pipeline.session
    run = session.run

    def note(inputs: Inputs) -> Any:
        ran.append(inputs)
        return run(inputs)

    with monkeypatch.context() as patch:
        patch.setattr(session, "run", note)
        pipeline.prefix_cache.clear()
        yield ran
    pipeline.prefix_cache.clear()


def prefix_cache(pipeline: Pipeline, **options: int) -> PrefixCache:
    """Another cache of a pipeline's session."""
    caching = pipeline.layout.prefix_caching
    return PrefixCache(pipeline.session, caching, pipeline.tokenizer, **{"max_prompt_tokens": 100, **options})


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_query_has_the_same_bits_from_its_own_tokens_alone(
    embedders: Embedders, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    embedder = embedders(precision)
    first = []
    for query in QUERIES:
        with cleared(embedder.pipeline, monkeypatch) as ran:
            first.append(embedder.encode_query([query], instruction=TASK)[0])
        assert [*map(prefix_tokens, ran)] == [0]
    prompt = len(embedder.pipeline.tokenizer.beginning(f"Instruct: {TASK}\nQuery:"))
    assert prompt > 10
    with cleared(embedder.pipeline, monkeypatch) as ran:
        embedder.encode_query("any", instruction=TASK)
        for query, expected in zip(QUERIES, first, strict=True):
            whole = len(embedder.pipeline.tokenizer.encode([f"Instruct: {TASK}\nQuery:{query}"]).ids[0])
            ran.clear()
            np.testing.assert_array_equal(embedder.encode_query(query, instruction=TASK), expected)
            (inputs,) = ran
            if whole < TILED_FROM:
                assert prefix_tokens(inputs) == prompt
                assert whole - prompt <= stream_tokens(inputs) <= whole - prompt + 1, "a joined token is computed again"
            else:
                assert prefix_tokens(inputs) == 0, "long rows have tiled attention, and the prompt had not"
        ran.clear()
        np.testing.assert_array_equal(embedder.encode_query(QUERIES, instruction=TASK), first)
        assert {*map(prefix_tokens, ran)} == {0, prompt}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pairs_have_the_same_bits_behind_a_cached_template(
    rerankers: Rerankers, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    reranker = rerankers(precision)
    pairs = [(query, document) for query in QUERIES[:8] for document in ("Beijing", "", "word " * 200)]
    with cleared(reranker.pipeline, monkeypatch) as ran:
        expected = reranker.predict(pairs, activation="logit")
        before = sum(map(stream_tokens, ran))
        ran.clear()
        np.testing.assert_array_equal(reranker.predict(pairs, activation="logit"), expected)
        assert sum(map(stream_tokens, ran)) <= before - 40
        for pair, logit in zip(pairs, expected, strict=True):
            assert reranker.predict([pair], activation="logit") == logit
    with cleared(reranker.pipeline, monkeypatch) as ran:
        first, second = (reranker.predict(pairs, activation="logit", separator="\n\n") for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert {bool(prefix_tokens(inputs)) for inputs in ran} == {False, True}


def test_a_prompt_that_is_used_once_is_not_computed_apart(
    embedders: Embedders, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = embedders("fp32")
    computed: list[int] = []
    run_presents = embedder.pipeline.session.run_presents

    def note(inputs: Inputs) -> Any:
        computed.append(stream_tokens(inputs))
        return run_presents(inputs)

    monkeypatch.setattr(embedder.pipeline.session, "run_presents", note)
    with cleared(embedder.pipeline, monkeypatch):
        for number in range(5):
            embedder.encode_query("text", instruction=f"task {number}")
        assert computed == []
        for _ in range(3):
            embedder.encode_query("text", instruction="task 3")
            embedder.encode("a text without a prompt")
        assert len(computed) == 1


def test_the_cache_is_bounded(embedders: Embedders) -> None:
    cache = prefix_cache(embedders("fp32").pipeline)
    for number in range(3 * MAX_PROMPTS):
        cache.get(f"prompt {number}")
    assert len(cache.prompts) == MAX_PROMPTS
    assert cache.cached_tokens == 0
    longest = 0
    for number in range(20):
        prompt = f"{number:2} " + "word " * 90
        assert cache.get(prompt) is None
        entry = cache.get(prompt)
        assert entry is not None
        assert cache.get(prompt) is entry
        assert cache.prompts[-1] == prompt
        assert cache.cached_tokens <= DEFAULT_TOKENS
        longest = max(longest, len(entry.ids))
    assert 2 * longest <= cache.cached_tokens
    assert cache.cached_tokens + longest > DEFAULT_TOKENS
    for prompt in ("word " * 200, "", "x" * (MAX_CHARACTERS + 1)):
        assert [cache.get(prompt) for _ in range(3)] == [None] * 3, "too long, or empty"
    assert "x" * (MAX_CHARACTERS + 1) not in cache.prompts


@pytest.mark.parametrize("tokens", [0, 4, 100])
def test_the_size_of_the_cache_is_an_option(embedders: Embedders, tokens: int) -> None:
    pipeline = embedders("fp32").pipeline
    cache = prefix_cache(pipeline, max_tokens=tokens)
    assert cache.enabled == (tokens > 0)
    prompts = {size: "word " * size for size in (2, 4, 5, 60)}
    for size, prompt in prompts.items():
        assert len(pipeline.tokenizer.beginning(prompt)) in (size, size + 1)
        cached = [cache.get(prompt) is not None for _ in range(3)]
        fits = len(pipeline.tokenizer.beginning(prompt)) <= tokens
        assert cached == [False, fits, fits]
        assert cache.cached_tokens <= tokens


def test_a_new_prompt_holds_up_nobody(embedders: Embedders, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread computes a prompt, others use the cache, and texts behind that prompt do without it."""
    pipeline = embedders("fp32").pipeline
    cache = prefix_cache(pipeline)
    cached = [cache.get("cached") for _ in range(2)][-1]
    assert cached is not None
    run_presents = pipeline.session.run_presents
    begun, go_on = Event(), Event()

    def wait(inputs: Inputs) -> Any:
        begun.set()
        assert go_on.wait(60)
        return run_presents(inputs)

    monkeypatch.setattr(pipeline.session, "run_presents", wait)
    cache.get("new")
    found: list[Any] = []
    thread = Thread(target=lambda: found.append(cache.get("new")))
    thread.start()
    try:
        assert begun.wait(60)
        assert cache.get("cached") is cached
        assert cache.get("new") is None
        assert cache.get("another") is None
    finally:
        go_on.set()
        thread.join(60)
    assert found[0] is not None
    assert cache.get("new") is found[0]


def test_a_prompt_that_failed_is_tried_again(embedders: Embedders, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = embedders("fp32").pipeline
    cache = prefix_cache(pipeline)
    cache.get("prompt")

    def fail(inputs: Inputs) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.session, "run_presents", fail)
        with pytest.raises(MemoryError):
            cache.get("prompt")
    assert cache.get("prompt") is not None


def test_a_cached_prompt_has_memory_of_its_own_and_every_layer(embedders: Embedders) -> None:
    pipeline = embedders("int8").pipeline
    numbers = config_of(pipeline.artifact)
    cache = prefix_cache(pipeline)
    prompt = "word " * 17
    cache.get(prompt)
    entry = cache.get(prompt)
    assert entry is not None
    assert entry.ids.tolist() == pipeline.tokenizer.beginning(prompt).tolist()
    shape = (len(entry.ids), numbers.num_key_value_heads * numbers.head_dim)
    assert {values.shape for values in entry.past.values()} == {shape}
    assert len(entry.past) == 2 * numbers.num_hidden_layers
    assert all(values.flags.owndata for values in entry.past.values())


def test_halves_cache_nothing(embedders: Embedders) -> None:
    embedder = embedders("fp16")
    assert not embedder.pipeline.prefix_cache.enabled
    for _ in range(3):
        embedder.encode_query("text", instruction=TASK)
        assert not embedder.pipeline.prefix_cache.prompts


def test_several_threads_share_the_cache(embedders: Embedders, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = embedders("int8")
    tasks = [f"task {number % 3}" for number in range(60)]

    def encode(task: str) -> Any:
        return embedder.encode_query(f"about {task}", instruction=task)

    with cleared(embedder.pipeline, monkeypatch):
        expected = [encode(task) for task in tasks[:3]]
        with ThreadPoolExecutor(THREADS) as pool:
            for task, found in zip(tasks, pool.map(encode, tasks), strict=True):
                np.testing.assert_array_equal(found, expected[int(task[-1])])


def test_workers_use_the_cache(embedders: Embedders, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(embedders("int8").pipeline.artifact, precision="int8", provider="cpu", threads=2, workers=2)
    queries = [f"{query} {number}" for number in range(20) for query in QUERIES[:8]]
    with cleared(embedder.pipeline, monkeypatch) as ran:
        expected = embedder.encode_query(queries)
        ran.clear()
        np.testing.assert_array_equal(embedder.encode_query(queries), expected)
        assert len(ran) > 1
        assert all(map(prefix_tokens, ran))
