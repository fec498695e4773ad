"""Texts and lists of any size, iterables that fail, and many threads: bounded, and to the bit the same."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from quoit import Embedder
from quoit.artifact import Artifact
from quoit.engine.pipeline import WINDOW_TEXTS
from quoit.machine import resident_bytes
from quoit.text.tokenizer import TextTokenizer
from support import Embedders, Rerankers

MEGABYTE = 1 << 20
TEN_MILLION = 10_000_000
MAX_TOKENS = 512
PREFIX = 200_000
"""Enough characters for MAX_TOKENS tokens, of at most 128 characters each."""

CHARACTERS = ["a", " ", "\0", "中", "😀", "0", "\n"]
GROWTH = 200 * MEGABYTE

PEAK = "from quoit.machine import resident_bytes; print(resident_bytes())"


def peaks(script: str, *arguments: object) -> list[int]:
    """The numbers that a script prints in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return [int(line) for line in found.stdout.split()]


def test_ten_million_times_one_character_take_little_memory(artifact: Artifact) -> None:
    """The text itself is not counted; a vector of each is computed."""
    script = (
        "import sys\n"
        "from quoit import Embedder\n"
        "embedder = Embedder(sys.argv[1], precision='fp32', max_tokens=512)\n"
        "embedder.encode('word ' * 1000)\n"
        f"texts = [character * {TEN_MILLION} for character in {CHARACTERS!r}]\n"
        f"{PEAK}\n"
        "for text in texts:\n"
        "    embedder.encode(text)\n"
        f"    {PEAK}\n"
    )
    before, *after = peaks(script, artifact.folder)
    assert len(after) == len(CHARACTERS)
    assert after[-1] - before < GROWTH, (before, after)


@pytest.mark.parametrize("character", CHARACTERS, ids=ascii)
def test_ten_million_times_one_character_have_the_ids_of_their_beginning(
    artifact: Artifact, tokenizer_file: Path, tokens512: TextTokenizer, character: str
) -> None:
    reference = Tokenizer.from_file(str(tokenizer_file))
    own = reference.encode(character * PREFIX, add_special_tokens=False).ids
    assert len(own) > MAX_TOKENS
    start = time.perf_counter()
    found = tokens512.encode([character * TEN_MILLION])
    assert time.perf_counter() - start < 20
    assert found.ids[0].tolist() == [*own[: MAX_TOKENS - 1], *tokens512.after.tolist()]
    assert found.truncation.texts == 1


@pytest.fixture(scope="module")
def tokens512(artifact: Artifact) -> TextTokenizer:
    manifest = artifact.manifest
    return TextTokenizer.load(artifact.folder / manifest.tokenizer.path, manifest, max_tokens=MAX_TOKENS)


def test_a_million_empty_texts_take_little_time_and_memory(byte_embedder: Embedder) -> None:
    texts = (("", "a")[number == 999_999] for number in range(1_000_000))
    empty, last = byte_embedder.encode(["", "a"], dim=32)
    before, start, count = resident_bytes(), time.perf_counter(), 0
    for vectors in byte_embedder.encode_stream(texts, dim=32):
        count += len(vectors)
        expected = np.tile(empty, (len(vectors), 1))
        if count == 1_000_000:
            expected[-1] = last
        assert (vectors == expected).all()
    assert count == 1_000_000
    assert time.perf_counter() - start < 60
    after = resident_bytes()
    if before is not None and after is not None:
        assert after - before < GROWTH


@pytest.fixture(scope="module")
def byte_embedder(byte_artifact: Artifact) -> Embedder:
    return Embedder(byte_artifact, precision="fp32", provider="cpu")


@pytest.mark.parametrize("bad", [None, 5, b"bytes", float("nan"), ["text"]], ids=ascii)
def test_what_is_no_text_at_the_far_end_of_a_list_is_refused_before_any_is_computed(
    byte_embedder: Embedder, rerankers: Rerankers, bad: Any
) -> None:
    texts: list[Any] = ["a long text " * 50] * 300_000 + [bad]
    start = time.perf_counter()
    with pytest.raises(TypeError, match="text 300000 "):
        byte_embedder.encode(texts)
    with pytest.raises(TypeError, match="document 300000 "):
        rerankers("fp32").rank("query", texts)
    assert time.perf_counter() - start < 10


class BrokenError(Exception):
    """What an iterable raises that breaks."""


@pytest.mark.parametrize("good", [0, 1, WINDOW_TEXTS - 1, WINDOW_TEXTS, 2 * WINDOW_TEXTS + 5])
def test_what_came_before_an_iterable_broke_is_answered(byte_embedder: Embedder, good: int) -> None:
    def texts() -> Iterator[str]:
        yield from map(str, range(good))
        raise BrokenError

    found: list[np.ndarray] = []
    with pytest.raises(BrokenError):
        found.extend(byte_embedder.encode_stream(texts()))
    assert sum(map(len, found)) == good
    if good:
        assert (np.concatenate(found) == byte_embedder.encode(list(map(str, range(good))))).all()


def test_an_iterable_that_gives_what_is_no_text_is_answered_up_to_there(byte_embedder: Embedder) -> None:
    found: list[np.ndarray] = []
    values: list[Any] = ["a", "b", 5, "c"]
    with pytest.raises(TypeError, match="text 2 "):
        found.extend(byte_embedder.encode_stream(iter(values)))
    assert (np.concatenate(found) == byte_embedder.encode(["a", "b"])).all()


THREADS = 8
WORDS = [
    "",
    "the same",
    "the same text",
    "another text of some length",
    "一个文本",
    *(f"text {i} " * i for i in range(40)),
]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_eight_threads_of_one_embedder_get_the_bits_of_one(embedders: Embedders, precision: Any) -> None:
    embedder = embedders(precision)
    expected = dict(zip(WORDS, embedder.encode(WORDS), strict=True))

    def work(number: int) -> None:
        for turn in range(4):
            texts = WORDS[(number + turn) % 5 :: 1 + number % 3]
            assert (embedder.encode(texts) == np.stack([expected[text] for text in texts])).all()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_eight_threads_of_one_reranker_get_the_scores_of_one(rerankers: Rerankers, precision: Any) -> None:
    reranker = rerankers(precision)
    documents = WORDS[:12]
    queries = [f"query {number}" for number in range(3)]
    expected = {query: reranker.predict([(query, document) for document in documents]) for query in queries}

    def work(number: int) -> None:
        query, step = queries[number % 3], 1 + number % 2
        found = reranker.predict([(query, document) for document in documents[::step]])
        assert (found == expected[query][::step]).all()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))


TOKENS = 6_000
HEADS = 4


def test_attention_over_thousands_of_tokens_takes_little_memory_in_fp16_too(artifact: Artifact) -> None:
    """A score for each pair of positions and head would be seen."""
    script = (
        "import sys\n"
        "from quoit import Embedder\n"
        "embedder = Embedder(sys.argv[1], precision=sys.argv[2], provider='cpu')\n"
        "embedder.encode('a b')\n"
        f"{PEAK}\n"
        f"text = 'a b c ' * {TOKENS // 3}\n"
        f"assert len(embedder.pipeline.tokenizer.encode([text]).ids[0]) >= {TOKENS}\n"
        "embedder.encode(text)\n"
        f"{PEAK}\n"
    )
    grown = {}
    for precision in ("fp32", "fp16", "int8"):
        before, after = peaks(script, artifact.folder, precision)
        grown[precision] = after - before
    scores = HEADS * TOKENS**2 * 2
    assert all(growth < scores / 2 for growth in grown.values()), grown
    assert grown["fp16"] < grown["fp32"] + 64 * MEGABYTE, grown
