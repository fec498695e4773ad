"""How an artifact is opened, shown, closed and copied to another process."""

import copy
import inspect
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quoit import Embedder, InputError, Reranker
from quoit.artifact import Artifact
from quoit.engine.options import Options
from quoit.engine.profile import Setting

TEXTS = ["gravity", "The capital of China is Beijing."]
SETTING = Setting(threads=6, workers=3, batch_tokens=100)


@pytest.mark.parametrize("kind", [Embedder, Reranker])
def test_every_option_is_a_parameter_with_its_default(kind: type[Embedder | Reranker]) -> None:
    parameters = inspect.signature(kind).parameters
    shown = {name: one.default for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    assert shown == Options().arguments()
    assert kind.__init__.__doc__ is not None
    for name in shown:
        assert f" {name}: " in kind.__init__.__doc__


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (6, 3, 100)),
        ({"workers": 2}, (6, 2, 100)),
        ({"threads": 4}, (4, None, 100)),
        ({"threads": 4, "workers": 2}, (4, 2, 100)),
        ({"batch_tokens": 7}, (6, 3, 7)),
    ],
)
def test_what_is_given_comes_before_a_tuning(given: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    """A tuning's workers do not fit another number of threads."""
    options = Options(**given).filled_in(SETTING)
    assert (options.threads, options.workers, options.batch_tokens) == expected


@pytest.mark.parametrize("wrong", [-1, 1.5, None, True, (1 << 20) + 1])
def test_a_cache_of_no_size_is_refused(byte_artifact: Artifact, wrong: Any) -> None:
    with pytest.raises(InputError, match=r"prefix_cache_tokens .* must be a whole number from 0 to 1048576"):
        Embedder(byte_artifact, provider="cpu", prefix_cache_tokens=wrong)


def test_the_prefix_cache_can_be_larger_or_off(byte_artifact: Artifact) -> None:
    instruction = "word " * 40
    vectors = []
    sizes: list[Any] = [0, 100, np.int64(300)]
    for size in sizes:
        embedder = Embedder(byte_artifact, precision="fp32", provider="cpu", prefix_cache_tokens=size)
        vectors += [embedder.encode_query("text", instruction=instruction) for _ in range(3)]
        assert (embedder.pipeline.prefix_cache.cached_tokens > 200) == (size == 300)
    np.testing.assert_array_equal(vectors, [vectors[0]] * len(vectors))


def test_a_model_is_shown_by_its_name_folder_precision_and_provider(
    byte_artifact: Artifact, rerank_artifact: Artifact
) -> None:
    embedder = Embedder(byte_artifact, precision="fp32", provider="cpu")
    assert repr(embedder) == f"<quoit.Embedder bytes in {byte_artifact.folder}: fp32 on cpu>"
    reranker = Reranker(rerank_artifact, precision="fp32", provider="cpu")
    assert repr(reranker) == f"<quoit.Reranker small-qwen3-reranker in {rerank_artifact.folder}: fp32 on cpu>"


@pytest.mark.parametrize("max_tokens", [None, 7])
def test_the_limit_of_tokens_is_public(byte_artifact: Artifact, max_tokens: int | None) -> None:
    embedder = Embedder(byte_artifact, precision="fp32", provider="cpu", max_tokens=max_tokens)
    assert embedder.max_tokens == (max_tokens or byte_artifact.manifest.max_tokens)


def test_a_closed_model_is_refused_and_closes_twice(byte_artifact: Artifact, rerank_artifact: Artifact) -> None:
    with Embedder(byte_artifact, precision="fp32", provider="cpu") as embedder:
        assert embedder.encode(TEXTS).shape[0] == len(TEXTS)
    embedder.close()
    with pytest.raises(InputError, match="the model was closed, and its memory is free; load it again"):
        embedder.encode(TEXTS)
    assert "fp32 on cpu" in repr(embedder)
    with Reranker(rerank_artifact, precision="fp32", provider="cpu") as reranker:
        pass
    with pytest.raises(InputError, match="the model was closed"):
        reranker.predict([("a", "b")])


def test_a_with_block_closes_after_an_error(byte_artifact: Artifact) -> None:
    with pytest.raises(RuntimeError), Embedder(byte_artifact, precision="fp32", provider="cpu") as embedder:
        raise RuntimeError
    with pytest.raises(InputError, match="the model was closed"):
        embedder.encode("text")


def test_a_model_is_sent_to_another_process_by_path_and_options(
    byte_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some bytes, and no weights; also where its folder was named relative to the current one."""
    monkeypatch.chdir(byte_artifact.folder.parent)
    embedder = Embedder(Path(byte_artifact.folder.name), precision="fp32", provider="cpu", threads=1, max_tokens=9)
    content = pickle.dumps(embedder)
    assert len(content) < 1000
    monkeypatch.chdir("/")
    other = pickle.loads(content)
    assert other.options == embedder.options
    assert other.max_tokens == 9
    np.testing.assert_array_equal(other.encode(TEXTS), embedder.encode(TEXTS))


class Own(Embedder):
    """A class of a user's."""


def test_a_class_of_ones_own_keeps_its_name_and_is_copied_as_such(byte_artifact: Artifact) -> None:
    model = Own(byte_artifact, precision="fp32", provider="cpu", threads=1)
    assert repr(model) == f"<quoit.Own bytes in {byte_artifact.folder}: fp32 on cpu>"
    function, arguments = model.__reduce__()
    assert type(function(*arguments)) is Own
    assert type(copy.copy(model)) is Own


@pytest.mark.parametrize("kind", [Embedder, Reranker])
def test_a_copy_shares_the_loaded_model(
    kind: type[Embedder | Reranker], byte_artifact: Artifact, rerank_artifact: Artifact
) -> None:
    """A pickle does not, and neither does a deep copy."""
    model = kind(byte_artifact if kind is Embedder else rerank_artifact, precision="fp32", provider="cpu", threads=1)
    assert copy.copy(model).pipeline is model.pipeline
    assert copy.copy(model).contract is model.contract
    assert copy.deepcopy(model).pipeline is not model.pipeline


def test_a_pool_of_processes_takes_a_method_of_a_model(byte_artifact: Artifact) -> None:
    embedder = Embedder(byte_artifact, precision="fp32", provider="cpu", threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        vectors = pool.apply(embedder.encode, (TEXTS,))
    np.testing.assert_array_equal(vectors, embedder.encode(TEXTS))


def test_a_reranker_is_copied_too(rerank_artifact: Artifact) -> None:
    reranker = Reranker(rerank_artifact, precision="fp32", provider="cpu", threads=1)
    other = pickle.loads(pickle.dumps(reranker))
    pairs = [("a query", "a document")]
    assert other.predict(pairs) == reranker.predict(pairs)
