"""Whatever holds texts or pairs in an order gives the same bits as a list of them; anything else is refused."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from tokenizers import processors

from oracle import make_reranker, save_rerank_checkpoint
from quoit import Embedder, Reranker
from quoit.artifact import Artifact
from quoit.engine.pipeline import WINDOW_TEXTS
from quoit.text.containers import each_text
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish
from support import byte_tokenizer

TEXTS = ["Gravity attracts.", "", "Beijing is a capital.", "naïve 中 é"]
QUERY = "What attracts?"
QUERIES = [QUERY, "Which capital?", "", QUERY]
STRINGS = np.dtypes.StringDType()

Container = Callable[[list[str]], Any]
Answer = Callable[[Any], Any]
Models = tuple[Embedder, Reranker]


def stepped(items: Any) -> Iterator[Any]:
    yield from items


def objects(items: list[Any]) -> Any:
    """An array of one dimension, whatever its items are."""
    found = np.empty(len(items), object)
    found[:] = items
    return found


class Sequenced:
    """What Python iterates by index alone."""

    def __init__(self, items: list[str]) -> None:
        self.items = items

    def __getitem__(self, index: int) -> str:
        return self.items[index]


CONTAINERS: dict[str, Container] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "generator": stepped,
    "iterator": iter,
    "map": lambda texts: map(str, texts),
    "view of values": lambda texts: dict(enumerate(texts)).values(),
    "view of keys": lambda texts: dict.fromkeys(texts).keys(),
    "items by index": Sequenced,
    "list of numpy.str_": lambda texts: [np.str_(text) for text in texts],
    "list of Arrow scalars": lambda texts: list(pa.array(texts)),
    "numpy": np.array,
    "numpy, backwards": lambda texts: np.array(texts[::-1])[::-1],
    "numpy, objects": objects,
    "numpy, objects that are numpy.str_": lambda texts: objects([np.str_(text) for text in texts]),
    "numpy, variable width": lambda texts: np.array(texts, STRINGS),
    "numpy, masked": lambda texts: np.ma.array(texts, mask=False),
    "numpy, a column": lambda texts: np.array([texts, texts]).T[:, 1],
    "pandas": pd.Series,
    "pandas, another index": lambda texts: pd.Series(texts, index=[2, 0, 3, 1][: len(texts)]),
    "pandas, objects": lambda texts: pd.Series(texts, dtype=object),
    "pandas, string": lambda texts: pd.Series(texts, dtype="string"),
    "pandas, category": lambda texts: pd.Series(texts, dtype="category"),
    "pandas, Arrow": lambda texts: pd.Series(texts, dtype=pd.ArrowDtype(pa.string())),
    "pandas, index": pd.Index,
    "pandas, a column": lambda texts: pd.DataFrame({"text": texts})["text"],
    "Arrow": pa.array,
    "Arrow, large": lambda texts: pa.array(texts, pa.large_string()),
    "Arrow, dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "Arrow, chunks": lambda texts: pa.chunked_array([texts[:1], texts[1:]], pa.string()),
    "Arrow, a column": lambda texts: pa.table({"text": texts})["text"],
    "Polars": pl.Series,
    "Polars, category": lambda texts: pl.Series(texts, dtype=pl.Categorical),
    "Polars, a column": lambda texts: pl.DataFrame({"text": texts})["text"],
}

PAIR_CONTAINERS: dict[str, Callable[[list[tuple[str, str]]], Any]] = {
    "list of tuples": list,
    "list of lists": lambda pairs: [list(pair) for pair in pairs],
    "tuple of lists": lambda pairs: tuple(list(pair) for pair in pairs),
    "zip": lambda pairs: zip(*zip(*pairs, strict=True), strict=True),
    "generator": stepped,
    "view of items": lambda pairs: dict(pairs).items(),
    "numpy [n, 2]": np.array,
    "numpy [n, 2], objects": lambda pairs: np.array(pairs, object),
    "numpy [n, 2], variable width": lambda pairs: np.array(pairs, STRINGS),
    "numpy, tuples": objects,
    "numpy, structured": lambda pairs: np.array(pairs, [("query", "U99"), ("document", "U99")]),
    "list of arrays": lambda pairs: [np.array(pair) for pair in pairs],
    "pandas [n, 2]": lambda pairs: pd.DataFrame(pairs).to_numpy(),
    "pandas, tuples": pd.Series,
    "pandas, columns": lambda pairs: zip(*(pd.DataFrame(pairs)[column] for column in (0, 1)), strict=True),
    "Arrow, lists": lambda pairs: pa.array([list(pair) for pair in pairs]),
    "Arrow, columns": lambda pairs: zip(*(pa.array(column) for column in zip(*pairs, strict=True)), strict=True),
    "Polars, lists": lambda pairs: pl.Series([list(pair) for pair in pairs]),
    "Polars, columns": lambda pairs: zip(*(pl.Series(column) for column in zip(*pairs, strict=True)), strict=True),
    "Polars, rows": lambda pairs: pl.DataFrame(pairs, orient="row").iter_rows(),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "dict": ({"id": "text"}, r"is dict, whose items are its keys; pass list\((texts|documents|pairs)\.\w+\(\)\)"),
    "read-only mapping": (MappingProxyType({"id": "text"}), "is mappingproxy, whose items are its keys; pass list"),
    "set": ({"text"}, "is set, which has no order; pass a list, such as sorted"),
    "frozenset": (frozenset({"text"}), "is frozenset, which has no order; pass a list"),
    "pandas table": (pd.DataFrame({"text": ["a"]}), "is DataFrame, whose items are its columns; pass what they hold"),
    "Polars table": (pl.DataFrame({"text": ["a"]}), "is DataFrame, whose items are its columns"),
    "lazy Polars table": (pl.LazyFrame({"text": ["a"]}), "is LazyFrame, whose items are its columns"),
    "Arrow table": (pa.table({"text": ["a"]}), "is Table, whose items are its columns"),
    "Arrow batch": (pa.record_batch({"text": ["a"]}), "is RecordBatch, whose items are its columns"),
    "bytes": (b"text", "is bytes, which holds numbers; decode it, and pass a list of"),
    "bytearray": (bytearray(b"text"), "is bytearray, which holds numbers; decode it"),
    "array of three dimensions": (np.full((2, 2, 2), "a"), r"is an array of shape \(2, 2, 2\); "),
    "array of no dimension": (np.array("text"), r"is an array of shape \(\); "),
    "number": (5, "is int 5, which holds no (texts|pairs); pass a list of them"),
    "None": (None, "is NoneType None, which holds no"),
    "path": (Path("a.txt"), "which holds no (texts|pairs); pass a list of them"),
    "type": (list, "is type <class 'list'>, which holds no"),
}

MISSING: dict[str, Any] = {
    "None": ["a", None],
    "NaN": ["a", float("nan")],
    "NaN of numpy": ["a", np.float32("nan")],
    "pandas.NA": ["a", pd.NA],
    "pandas.NaT": ["a", pd.NaT],
    "pandas": pd.Series(["a", None]),
    "pandas, string": pd.Series(["a", None], dtype="string"),
    "pandas, objects": pd.Series(["a", np.nan], dtype=object),
    "Arrow": pa.array(["a", None]),
    "Polars": pl.Series(["a", None]),
    "numpy, masked": np.ma.array(["a", "b"], mask=[False, True]),
}


@pytest.fixture(scope="module")
def models(byte_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("byte-reranker")
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["yes", "no"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    model = make_reranker(vocab_size=512, num_hidden_layers=2, max_position_embeddings=2048)
    checkpoint = open_checkpoint(str(save_rerank_checkpoint(folder / "checkpoint", folder / "tokenizer.json", model)))
    reranker = Reranker(publish(checkpoint, Request(folder / "artifact", ("fp32",))), precision="fp32", provider="cpu")
    return Embedder(byte_artifact, precision="fp32", provider="cpu"), reranker


def methods(models: Models) -> dict[str, Answer]:
    """Every public method that takes texts, as a function of what holds them."""
    embedder, reranker = models
    judge: Any = reranker.predict
    return {
        "encode": embedder.encode,
        "encode_query": lambda texts: embedder.encode_query(texts, instruction="Find"),
        "encode_document": embedder.encode_document,
        "encode_stream": lambda texts: np.concatenate(list(embedder.encode_stream(texts))),
        "rank": lambda texts: reranker.rank(QUERY, texts, return_documents=True),
        "predict": judge,
    }


METHODS = ("encode", "encode_query", "encode_document", "encode_stream", "rank")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_gives_the_bits_of_its_list(models: Models, method: str, container: str) -> None:
    answer = methods(models)[method]
    found, expected = answer(CONTAINERS[container](TEXTS)), answer(TEXTS)
    if method == "rank":
        assert found == expected
        assert [type(each["text"]) for each in found] == [str] * len(TEXTS)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_column_of_documents_can_be_zipped_with_one_of_queries(models: Models, container: str) -> None:
    expected = models[1].predict(list(zip(QUERIES, TEXTS, strict=True)))
    make = CONTAINERS[container]
    queries = QUERIES if container == "view of keys" else make(QUERIES)
    np.testing.assert_array_equal(models[1].predict(zip(queries, make(TEXTS), strict=True)), expected)


@pytest.mark.parametrize("container", PAIR_CONTAINERS)
@pytest.mark.parametrize("count", [2, 3])
def test_pairs_in_a_container_give_the_bits_of_their_list(models: Models, container: str, count: int) -> None:
    """Two pairs are not one."""
    pairs = list(zip(["q1", "q2", "q3"][:count], TEXTS, strict=False))
    expected = models[1].predict(pairs)
    assert expected.shape == (count,)
    np.testing.assert_array_equal(models[1].predict(PAIR_CONTAINERS[container](pairs)), expected)
    (scored,) = models[1].score_windows(PAIR_CONTAINERS[container](pairs))
    np.testing.assert_array_equal(scored.logits, models[1].predict(pairs, activation="logit"))


@pytest.mark.parametrize("make", [tuple, list, np.array, objects, pd.Series, pa.array, pl.Series, iter])
def test_one_pair_gives_one_score(models: Models, make: Any) -> None:
    """As `CrossEncoder.predict` of sentence-transformers does: a float32 of no dimension."""
    score = models[1].predict(make(["query", "document"]))
    assert type(score) is np.float32
    assert score == models[1].predict([("query", "document")])[0]
    assert models[1].predict([["query", "document"]]).shape == (1,)


def test_no_texts_in_any_container_are_no_answers(models: Models) -> None:
    embedder, reranker = models
    texts: list[Any] = [(), iter([]), np.array([], "U1"), pd.Series([], dtype="string"), pa.array([], pa.string())]
    for empty in [[], *texts]:
        assert embedder.encode(empty).shape == (0, 96)
    pairs: list[Any] = [(), iter([]), np.empty((0, 2), "U1"), {}.items()]
    for empty in [[], *pairs]:
        assert reranker.predict(empty).shape == (0,)
    assert reranker.rank(QUERY, iter([])) == []


@pytest.mark.parametrize("method", [*METHODS, "predict"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_hold_texts_in_an_order_is_refused(models: Models, method: str, kind: str) -> None:
    container, message = REFUSED[kind]
    answer = methods(models)[method]
    with pytest.raises(TypeError, match=message):
        answer(container)


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_of_texts_is_refused(models: Models, method: str) -> None:
    with pytest.raises(
        TypeError, match=r"an array of shape \(1, 2\); pass one of a single dimension, or array\[:, 0\]"
    ):
        methods(models)[method](np.array([["a", "b"]]))


@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (0, 3)])
def test_a_matrix_that_holds_no_pairs_is_refused(models: Models, shape: tuple[int, int]) -> None:
    with pytest.raises(TypeError, match=rf"pairs is an array of shape \({shape[0]}, {shape[1]}\); make it \[n, 2\]"):
        models[1].predict(np.full(shape, "a"))


@pytest.mark.parametrize("text", ["abc", np.str_("abc")])
def test_one_string_is_a_text_and_no_container(models: Models, text: str) -> None:
    embedder, reranker = models
    np.testing.assert_array_equal(embedder.encode(text), embedder.encode(["abc"])[0])
    with pytest.raises(TypeError, match=r"texts is one string, .*'abc'.*; put it into a list"):
        embedder.encode_stream(text)
    with pytest.raises(TypeError, match=r"documents is one string, .*'abc'.*; put it into a list"):
        reranker.rank(QUERY, text)
    with pytest.raises(TypeError, match=r"pairs is one string, .*'abc'.*; make it \[\(query, document\), ...\]"):
        reranker.predict(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_text_is_refused_with_its_index(models: Models, method: str, kind: str) -> None:
    name = "document 1" if method == "rank" else "text 1"
    with pytest.raises(TypeError, match=rf"{name} is \w+ .*, not str; leave out missing values, or replace them by ''"):
        methods(models)[method](MISSING[kind])


def test_a_missing_text_of_a_pair_is_refused_with_its_index(models: Models) -> None:
    for pairs in (np.array([["a", "b"], ["c", None]], object), pd.DataFrame([["a", "b"], ["c", None]]).to_numpy()):
        with pytest.raises(TypeError, match=r"the document of pair 1 is .* leave out missing values"):
            models[1].predict(pairs)


def test_documents_of_a_column_are_told_by_their_place(models: Models) -> None:
    """Labels of pandas are not places: the text that is returned is the one that was scored."""
    documents = ["Gravity attracts.", "Beijing.", "An apple."]
    ranking = models[1].rank(QUERY, pd.Series(documents, index=[2, 0, 1]), return_documents=True)
    assert ranking == models[1].rank(QUERY, documents, return_documents=True)
    assert [each["text"] for each in ranking] == [documents[each["index"]] for each in ranking]


def test_an_invalid_item_is_found_before_anything_is_computed(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, reranker = models
    for pipeline in (embedder.pipeline, reranker.pipeline):
        monkeypatch.delattr(pipeline.session, "_session")
    many: list[Any] = ["a"] * (WINDOW_TEXTS + 1) + [5]
    with pytest.raises(TypeError, match=f"text {WINDOW_TEXTS + 1} is int 5"):
        embedder.encode(stepped(many))
    with pytest.raises(TypeError, match=f"document {WINDOW_TEXTS + 1} is int 5"):
        reranker.rank(QUERY, stepped(many))
    with pytest.raises(TypeError, match=f"the document of pair {WINDOW_TEXTS + 1} is int 5"):
        reranker.predict((QUERY, text) for text in many)


def test_an_option_is_refused_before_an_iterator_is_read(models: Models) -> None:
    embedder, reranker = models
    texts, pairs = iter(["a"]), iter([("a", "b")])
    calls: list[Callable[[], object]] = [
        lambda: embedder.encode(texts, dim=5000),
        lambda: embedder.encode_stream(texts, dim=5000),
        lambda: embedder.encode(texts, normalize=None),  # type: ignore[arg-type]
        lambda: reranker.rank(QUERY, texts, top_k=0),
        lambda: reranker.predict(pairs, activation="softmax"),  # type: ignore[call-overload]
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"dim|normalize|top_k|activation"):
            call()
    assert list(texts) == ["a"]
    assert list(pairs) == [("a", "b")]


def test_a_stream_reads_no_more_than_a_window_ahead(models: Models) -> None:
    """And refuses an item that is no text when its turn comes."""
    taken = 0

    def texts() -> Iterator[Any]:
        nonlocal taken
        for number in range(3 * WINDOW_TEXTS):
            taken += 1
            yield f"text {number % 7}"
        yield None

    stream = models[0].encode_stream(texts())
    assert taken == 0
    assert len(next(stream)) == WINDOW_TEXTS
    assert taken == WINDOW_TEXTS
    assert sum(map(len, [next(stream), next(stream)])) == 2 * WINDOW_TEXTS
    with pytest.raises(TypeError, match=f"text {3 * WINDOW_TEXTS} is NoneType None"):
        next(stream)


def test_a_prompt_that_is_no_text_is_refused(models: Models) -> None:
    with pytest.raises(TypeError, match="prompt is NoneType None, not str"):
        models[0].encode_stream(["a"], prompt=None)  # type: ignore[arg-type]


def test_progress_of_an_iterator_has_its_length(models: Models, capfd: pytest.CaptureFixture[str]) -> None:
    models[0].encode(stepped(TEXTS), show_progress=True)
    assert f"{len(TEXTS)}/{len(TEXTS)}" in capfd.readouterr().err
    models[1].predict(zip(QUERIES, TEXTS, strict=True), show_progress=True)
    assert f"{len(TEXTS)}/{len(TEXTS)}" in capfd.readouterr().err


def test_an_error_of_an_iterator_goes_on_to_the_caller(models: Models) -> None:
    def texts() -> Iterator[str]:
        yield "a"
        raise TypeError("the source broke")

    for method in METHODS:
        answer = methods(models)[method]
        with pytest.raises(TypeError, match=r"^the source broke$"):
            answer(texts())


def test_a_view_of_a_table_is_not_read_to_be_refused() -> None:
    """The columns of a lazy table are a query of its own."""

    class Table:
        @property
        def columns(self) -> list[str]:
            raise AssertionError("was read")

    with pytest.raises(TypeError, match="texts is Table, whose items are its columns"):
        each_text(Table())  # type: ignore[arg-type]
