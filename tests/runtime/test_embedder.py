"""The public face, against transformers and against itself."""

import random
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from quoit import Embedder, InputError
from quoit.artifact import Artifact, Precision
from quoit.engine.limits import TILED_FROM
from quoit.engine.pipeline import WINDOW_TEXTS, take_windows
from quoit.engine.planner import Limits
from quoit.text.tokenizer import Truncation
from quoit_export.verify.parity import parity_texts
from support import Embedders, Ids, Oracle, Vectors

PARITY = 2e-6


def mixed_texts() -> list[str]:
    """More than 200 texts: some thirty languages, code, symbols, control characters, 0 to about 2,000 tokens."""
    base = parity_texts()
    generator = random.Random(7)
    odd = [
        "",
        " ",
        "\n",
        "\t\t \r\n",
        "a",
        "\x00",
        "\x01\x02\x7f",
        "\u200b\u202e\ufeff",
        "é",
        "e\u0301",
        "👩‍👩‍👧‍👦" * 5,
        "…" * 40,
        "0" * 300,
    ]
    special = ["<|endoftext|>", "<|im_start|>user\n<|im_end|>", "x<think>y</think>"]
    longer = [" ".join(generator.choices(base, k=2 + number * 3 // 4)) for number in range(120)]
    return base + odd + special + longer


def ids_of(embedder: Embedder, texts: list[str]) -> list[list[int]]:
    """The texts' token ids."""
    return [row.tolist() for row in embedder.pipeline.tokenizer.encode(texts).ids]


def unit_batch(model: Any, rows: Sequence[Ids], pad: int) -> Vectors:
    """transformers on one left-padded batch, as Qwen3-Embedding's model card runs it."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    with torch.inference_mode():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -1]
    found: Vectors = torch.nn.functional.normalize(states).numpy()
    return found


def test_fp32_equals_transformers(embedders: Embedders, oracle: Oracle) -> None:
    texts = mixed_texts()
    embedder = embedders("fp32")
    rows = ids_of(embedder, texts)
    lengths = [len(row) for row in rows]
    assert len(texts) >= 200
    assert min(lengths) == 1
    assert max(lengths) > TILED_FROM, "the tiled attention path must be among them"
    assert 1500 < max(lengths) < 2500
    distance = np.abs(embedder.encode(texts) - oracle(rows)).max()
    assert distance <= PARITY


def test_fp32_equals_transformers_left_padded(embedders: Embedders, reference_model: Any) -> None:
    embedder = embedders("fp32")
    texts = parity_texts()[:24]
    rows = ids_of(embedder, texts)
    assert np.abs(embedder.encode(texts) - unit_batch(reference_model, rows, pad=151_643)).max() <= PARITY


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.9995), ("int8", 0.98)])
def test_reduced_precision_stays_close(embedders: Embedders, precision: Precision, least: float) -> None:
    texts = mixed_texts()
    cosines = (embedders("fp32").encode(texts) * embedders(precision).encode(texts)).sum(axis=1)
    assert cosines.min() >= least


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    "limits",
    [
        Limits(1, 1, TILED_FROM),
        Limits(64, 256, TILED_FROM),
        Limits(512, 2048, TILED_FROM),
        Limits(512, 2048, TILED_FROM, share_prefixes=False),
        Limits(100_000, 1_000_000, TILED_FROM),
        Limits(100_000, 1_000_000, TILED_FROM, share_prefixes=False),
    ],
    ids=["alone", "small", "default", "unshared", "large", "large-unshared"],
)
def test_a_text_does_not_see_its_batch(embedders: Embedders, precision: Precision, limits: Limits) -> None:
    """Bit for bit the same vector alone, in any batch, in any order, with and without shared prefixes."""
    texts = [text for text in mixed_texts() if len(text) < 1500][:120:2] + mixed_texts()[-3:]
    texts += [texts[-1][:cut] + " another end" for cut in (10, 500, 2000, len(texts[-1]) - 40)]
    embedder = embedders(precision)
    alone = np.stack([embedder.encode_query(text) for text in texts])
    order = np.random.default_rng(limits.stream_tokens).permutation(len(texts))
    other = copy(embedder)
    other.pipeline = replace(embedder.pipeline, limits=limits)
    together = other.encode_query([texts[i] for i in order])
    np.testing.assert_array_equal(together, alone[order])


def test_order_of_input_is_order_of_output(embedders: Embedders) -> None:
    embedder = embedders("fp32")
    texts = mixed_texts()[:80]
    backwards = embedder.encode(texts[::-1])
    np.testing.assert_array_equal(backwards[::-1], embedder.encode(texts))


def test_queries_carry_the_official_instruction(embedders: Embedders) -> None:
    embedder = embedders("fp32")
    task = "Given a web search query, retrieve relevant passages that answer the query"
    rendered = embedder.encode(f"Instruct: {task}\nQuery:What is gravity?")
    np.testing.assert_array_equal(embedder.encode_query("What is gravity?"), rendered)
    other = embedder.encode("Instruct: Find a rhyme\nQuery:What is gravity?")
    np.testing.assert_array_equal(embedder.encode_query("What is gravity?", instruction="Find a rhyme"), other)
    assert not np.array_equal(rendered, other)
    np.testing.assert_array_equal(embedder.encode_document("gravity"), embedder.encode("gravity"))


def test_a_truncated_vector_is_the_prefix_renormalised(embedders: Embedders) -> None:
    embedder = embedders("fp32")
    texts = mixed_texts()[:20]
    full = embedder.encode(texts, normalize=False)
    for dim in (32, 50, 96):
        prefix = full[:, :dim]
        expected = prefix / np.linalg.norm(prefix, axis=1, keepdims=True)
        np.testing.assert_allclose(embedder.encode(texts, dim=dim), expected, atol=1e-7)
    assert np.linalg.norm(full, axis=1).min() > 1.5


def test_one_string_gives_one_vector(embedders: Embedders) -> None:
    embedder = embedders("fp32")
    assert embedder.encode("gravity").shape == (96,)
    assert embedder.encode(["gravity"]).shape == (1, 96)
    assert embedder.encode([]).shape == (0, 96)
    assert embedder.encode([], dim=32, dtype="ubinary").shape == (0, 4)


def test_max_tokens_cuts_the_text_and_keeps_the_end_token(
    artifact: Artifact, oracle: Oracle, tokenizer: Tokenizer
) -> None:
    embedder = Embedder(artifact.folder, precision="fp32", provider="cpu", max_tokens=8)
    text = "one two three four five six seven eight nine ten eleven"
    ids = tokenizer.encode(text).ids
    assert len(ids) > 8
    np.testing.assert_allclose(embedder.encode(text), oracle([ids[:7] + ids[-1:]])[0], atol=PARITY)
    (encoded,) = embedder.encode_windows([text, "short"])
    assert encoded.truncation == Truncation(1, len(ids) - 8, len(ids) - 8)
    assert encoded.tokens == 8 + 2


def test_32k_tokens_work(artifact: Artifact) -> None:
    """The longest text the model takes, in fp32 and with attention in tiles."""
    embedder = Embedder(artifact.folder, precision="fp32", provider="cpu")
    (encoded,) = embedder.encode_windows(["word " * 40_000])
    assert encoded.tokens == 32_768
    assert encoded.truncation.texts == 1
    assert encoded.truncation.longest == len(ids_of(embedder, ["word " * 30_000])[0]) + 10_000 - 32_768
    assert np.isfinite(encoded.vectors).all()


def test_100k_short_texts(embedders: Embedders) -> None:
    """Identical texts cost nothing, and many texts pass through windows in order."""
    embedder = embedders("int8")
    texts = [f"w{number % 700}" for number in range(100_000)]
    vectors = embedder.encode(texts)
    assert vectors.shape == (100_000, 96)
    few = embedder.encode(texts[:700])
    np.testing.assert_array_equal(vectors, few[np.arange(100_000) % 700])


def test_a_stream_is_answered_in_order_and_in_parts(embedders: Embedders) -> None:
    embedder = embedders("int8")
    texts = [f"text {number % 50}" for number in range(WINDOW_TEXTS + 10)]
    parts = list(embedder.encode_stream(iter(texts), dim=32))
    assert [len(part) for part in parts] == [WINDOW_TEXTS, 10]
    np.testing.assert_array_equal(np.concatenate(parts), embedder.encode(texts, dim=32))


def test_a_stream_that_raises_gives_what_came_before(embedders: Embedders) -> None:
    def texts() -> Iterator[str]:
        yield "first"
        yield "second"
        raise RuntimeError("the source broke")

    stream = embedders("int8").encode_stream(texts())
    assert len(next(stream)) == 2
    with pytest.raises(RuntimeError, match="the source broke"):
        next(stream)


def test_windows_are_bounded_by_characters_too() -> None:
    windows = list(take_windows(["x" * (3 << 20)] * 7))
    assert [len(window) for window in windows] == [3, 3, 1]


@pytest.mark.parametrize("texts", [["good", 5], ["good", None], ["good", b"bytes"]])
def test_what_is_not_text_is_named_by_its_index(embedders: Embedders, texts: list[Any]) -> None:
    with pytest.raises(TypeError, match=r"text 1 is (int|NoneType|bytes).*not str"):
        embedders("fp32").encode(texts)


def test_a_lone_surrogate_is_named_by_its_index(embedders: Embedders) -> None:
    with pytest.raises(InputError, match=r"text 1 has the lone surrogate '\\ud800' at position 2"):
        embedders("fp32").encode(["good", "ab\ud800"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 31}, "dim 31 must be a whole number from 32 to 96"),
        ({"dim": 97}, "dim 97 must be a whole number from 32 to 96"),
        ({"dim": True}, "dim True must be a whole number"),
        ({"dtype": "float8"}, "dtype 'float8' is unknown"),
        ({"dtype": "int8"}, "needs ranges"),
        ({"dtype": "int8", "ranges": np.zeros((2, 5))}, r"ranges of shape \(2, 5\) must be"),
    ],
)
def test_an_output_that_cannot_be_given_is_refused(embedders: Embedders, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedders("fp32").encode(["text"], **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 1}, "max_tokens 1 must be a whole number from 2 to 32768"),
        ({"max_tokens": 40_000}, "max_tokens 40000"),
        ({"threads": 0}, "threads 0 must be"),
        ({"batch_tokens": -5}, "batch_tokens -5 must be"),
        ({"threads": 2, "workers": 3}, "workers 3 must be a whole number from 1 to 2"),
        ({"workers": 0}, "workers 0 must be"),
        ({"provider": "tpu"}, "provider 'tpu' is unknown"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown"),
    ],
)
def test_an_argument_out_of_bounds_is_refused(artifact: Artifact, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Embedder(artifact.folder, **arguments)


def test_workers_change_nothing_but_the_speed(artifact: Artifact, embedders: Embedders) -> None:
    texts = mixed_texts()[:150]
    embedder = Embedder(artifact.folder, precision="int8", provider="cpu", threads=4, workers=3, batch_tokens=100)
    assert embedder.pipeline.session.threads == 1
    np.testing.assert_array_equal(embedder.encode(texts), embedders("int8").encode(texts))


def test_batch_tokens_change_nothing_but_the_batches(artifact: Artifact, embedders: Embedders) -> None:
    texts = mixed_texts()[:60]
    embedder = Embedder(artifact.folder, precision="int8", provider="cpu", batch_tokens=100, threads=1)
    np.testing.assert_array_equal(embedder.encode(texts), embedders("int8").encode(texts))
