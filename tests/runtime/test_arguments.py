"""Numbers of numpy are numbers, flags are true or false, and an option of another name is told its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quoit import Embedder, InputError, Reranker
from quoit.arguments import COUNTERPARTS, NOTES, advice, check_number, flag, integer, refuse_unknown
from quoit.artifact import Artifact
from quoit.engine.pooling import Output, dtype_name
from quoit.engine.scoring import best_first, check_top_k


@pytest.fixture(scope="module")
def embedder(byte_artifact: Artifact) -> Embedder:
    return Embedder(byte_artifact, precision="fp32", provider="cpu")


@pytest.mark.parametrize("kind", [int, np.int8, np.int64, np.uint16, np.array])
def test_an_integer_of_numpy_is_an_integer(kind: Any) -> None:
    assert type(integer(kind(7))) is int
    assert integer(kind(7)) == 7


@pytest.mark.parametrize("value", [True, np.True_, 7.0, np.float32(7), "7", None, np.array([7, 8]), [7], 7 + 0j])
def test_nothing_else_is_an_integer(value: Any) -> None:
    assert integer(value) is None


def test_every_number_may_be_numpys(byte_artifact: Artifact, embedder: Embedder) -> None:
    texts = ["a text", "another"]
    numbers: dict[str, Any] = {"threads": 2, "workers": 2, "batch_tokens": 64, "max_tokens": 100}
    given: dict[str, Any] = {name: np.int64(value) for name, value in numbers.items()}
    found = Embedder(byte_artifact, precision="fp32", provider="cpu", **given)
    assert (found.pipeline.workers, found.pipeline.session.threads) == (2, 1)
    assert type(found.pipeline.workers) is type(found.pipeline.tokenizer.max_tokens) is int
    np.testing.assert_array_equal(found.encode(texts, dim=np.int32(40)), embedder.encode(texts, dim=40))
    assert best_first(np.array([1.0, 3.0, 2.0]), np.uint8(2)).tolist() == [1, 2]


@pytest.mark.parametrize("value", [True, 2.0, np.float64(2), "2", np.bool_(True)])
@pytest.mark.parametrize("name", ["threads", "workers", "batch_tokens", "max_tokens"])
def test_what_is_no_whole_number_is_refused(byte_artifact: Artifact, name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(InputError, match=rf"{name} .* must be a whole number"):
        Embedder(byte_artifact, precision="fp32", provider="cpu", **options)


def test_a_number_out_of_bounds_is_shown() -> None:
    with pytest.raises(InputError, match=r"threads .*0.* must be a whole number from 1 to 8"):
        check_number("threads", np.int64(0), 1, 8)
    with pytest.raises(InputError, match=r"threads .*9.* must be a whole number from 1 to 8$"):
        check_number("threads", 9, 1, 8)
    assert [check_number("threads", value, 1, 8) for value in (1, 8)] == [1, 8]


@pytest.mark.parametrize("dim", [1.5, 31, 97, True, "64"])
def test_a_dim_is_checked_as_every_number_is(embedder: Embedder, dim: Any) -> None:
    with pytest.raises(InputError, match=rf"dim {dim!r} must be a whole number from 32 to 96$"):
        embedder.encode("a", dim=dim)


@pytest.mark.parametrize("top_k", [0, -1, 2.0, True])
def test_a_number_of_results_has_no_upper_limit(top_k: Any) -> None:
    assert check_top_k(1 << 40) == 1 << 40
    assert check_top_k(None) is None
    with pytest.raises(InputError, match=r"top_k .* must be a whole number from 1 on, or None for all$"):
        check_top_k(top_k)


@pytest.mark.parametrize("name", ["float32", "float16"])
def test_a_dtype_may_be_numpys(embedder: Embedder, name: Any) -> None:
    expected = embedder.encode("a", dtype=name)
    assert expected.dtype == name
    for dtype in (getattr(np, name), np.dtype(name), expected.dtype):
        found = embedder.encode("a", dtype=dtype)
        assert found.dtype == name
        np.testing.assert_array_equal(found, expected)


def test_every_dtype_of_numpy_that_vectors_have_is_known() -> None:
    for dtype in (np.float32, np.float16, np.int8, np.uint8):
        assert dtype_name(dtype) == dtype_name(np.dtype(dtype)) == np.dtype(dtype).name


@pytest.mark.parametrize(
    "dtype", [np.float64, np.dtype(">f2"), float, int, None, np.floating, np.array(["int8", "int8"]), ["int8"], 16]
)
def test_any_other_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(InputError, match=r"dtype .* is unknown; choose one of float32"):
        Output(dtype=dtype).check(min_dim=8, hidden_size=40)


def test_a_checked_output_is_in_types_of_python() -> None:
    given: Any = np.bool_(False)
    checked = Output(np.int64(16), given, np.float16).check(min_dim=8, hidden_size=40)
    assert checked == Output(16, normalize=False, dtype="float16")
    assert (type(checked.dim), type(checked.normalize), type(checked.dtype)) == (int, bool, str)


@pytest.mark.parametrize("value", [None, 0, 1, "yes", [], np.int64(1), np.array([True, False])])
def test_a_flag_is_true_or_false(value: Any) -> None:
    with pytest.raises(TypeError, match=r"normalize is \w+ .*; make it True or False"):
        flag("normalize", value)


@pytest.mark.parametrize("value", [None, 1, "no"])
def test_every_flag_is_checked(byte_artifact: Artifact, embedder: Embedder, value: Any) -> None:
    for name in ("normalize", "show_progress"):
        for method in (embedder.encode, embedder.encode_query, embedder.encode_document):
            with pytest.raises(TypeError, match=f"{name} is .*; make it True or False"):
                method("a", **{name: value})
    with pytest.raises(TypeError, match=r"normalize is .*; make it True or False"):
        embedder.encode_stream(["a"], normalize=value)
    if value is not None:
        with pytest.raises(TypeError, match=r"cuda_graphs is .*; make it True or False"):
            Embedder(byte_artifact, cuda_graphs=value)


@pytest.mark.parametrize(
    ("owner", "method", "name", "message"),
    [
        (Embedder, "encode", "convert_to_numpy", "results are numpy arrays already"),
        (Embedder, "encode", "convert_to_tensor", "results are numpy arrays; torch.from_numpy"),
        (Embedder, "encode", "instruction", r"use instruction= of Embedder.encode_query\(\)"),
        (Embedder, "encode_document", "task", r"use instruction= of Embedder.encode_query\(\)"),
        (Embedder, "encode_query", "prompt", r"use prompt= of Embedder.encode\(\)"),
        (Embedder, "encode_document", "prompt_name", r"use prompt_name= of Embedder.encode\(\)"),
        (
            Embedder,
            "encode_stream",
            "truncate_dim",
            r"Embedder.encode_stream\(\) has no option 'truncate_dim'; use dim=",
        ),
        (Embedder, "encode_stream", "batch_size", r"use batch_tokens= of Embedder\(\)"),
        (Embedder, "encode_stream", "instruction", r"use instruction= of Embedder.encode_query\(\)"),
        (Embedder, "encode", "device", r"use provider= of Embedder\(\)"),
        (Embedder, "encode", "threads", r"use threads= of Embedder\(\)"),
        (Embedder, "__init__", "dtype", "use precision="),
        (Embedder, "__init__", "device", r"Embedder\(\) has no option 'device'; use provider="),
        (Embedder, "__init__", "providers", "use provider="),
        (Embedder, "__init__", "max_length", "use max_tokens="),
        (Embedder, "__init__", "max_seq_length", "use max_tokens="),
        (Embedder, "__init__", "num_threads", "use threads="),
        (Embedder, "__init__", "batch_size", "use batch_tokens="),
        (Embedder, "__init__", "truncate_dim", r"use dim= of Embedder.encode\(\)"),
        (Embedder, "__init__", "normalize", r"use normalize= of Embedder.encode\(\)"),
        (Embedder, "__init__", "cache_folder", "QUOIT_CACHE names the folder"),
        (Embedder, "__init__", "revision", "name it as ORG/NAME@REVISION"),
        (Embedder, "__init__", "trust_remote_code", "an artifact has no code that could run"),
        (Embedder, "__init__", "precison", "use precision=; it takes precision, provider, threads, max_tokens"),
        (Reranker, "__init__", "activation_fn", r"use activation= of Reranker.rank\(\)"),
        (Reranker, "rank", "top_n", "use top_k="),
        (Reranker, "rank", "return_text", "use return_documents="),
        (Reranker, "rank", "precision", r"use precision= of Reranker\(\)"),
        (Reranker, "predict", "top_k", r"use top_k= of Reranker.rank\(\)"),
        (Reranker, "predict", "apply_softmax", "use activation="),
        (Reranker, "predict", "activation_fn", "use activation="),
        (Reranker, "predict", "prompt", r"has no option 'prompt'; it takes instruction, separator"),
        (Embedder, "encode_windows", "instruction", r"use instruction= of Embedder.encode_query\(\)"),
        (Reranker, "score_windows", "show_progress", r"use show_progress= of Reranker.rank\(\)"),
        (Reranker, "predict", "seperator", r"use separator=; it takes instruction, separator, activation, show"),
        (
            Reranker,
            "predict",
            "colour",
            r"Reranker.predict\(\) has no option 'colour'; it takes instruction, separator",
        ),
    ],
)
def test_an_unknown_option_is_told_its_counterpart(owner: type, method: str, name: str, message: str) -> None:
    """By the public method; the model need not be there to be asked, since it is the first that is looked at."""
    positional: dict[str, tuple[Any, ...]] = {"__init__": (Path("nowhere"),), "rank": ("query", [])}
    kind: Any = owner
    call = getattr(kind.__new__(kind), method)
    with pytest.raises(TypeError, match=message) as caught:
        call(*positional.get(method, ([],)), **{name: None})
    for internal in ("Output", "Scoring", "Shares", "Pipeline", "__init__"):
        assert internal not in str(caught.value)


@pytest.mark.parametrize("owner", [Embedder, Reranker])
def test_what_an_option_is_told_to_be_is_there(owner: type) -> None:
    """Every name of the table leads to an option of this class, or to the list of those there are."""
    for method in ("__init__", *(name for name in vars(owner) if not name.startswith("_") and name != "dim")):
        for name in (*COUNTERPARTS, *NOTES):
            step = advice(owner, method, name)
            assert step.startswith(("use ", "it takes ")) or step == NOTES[name]
    assert not COUNTERPARTS.keys() & NOTES.keys()


def test_known_options_are_not_looked_at() -> None:
    refuse_unknown(Embedder, "encode", {})
