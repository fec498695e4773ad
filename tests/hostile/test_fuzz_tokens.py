"""Token rows of any text: within the limit, between the ids they must stand between, and the same in any company."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fuzzing import TEXTS, fuzz
from quoit.artifact import Artifact, EmbeddingContract
from quoit.text.tokenizer import TextTokenizer, Truncation

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "<|vision_pad|>", "yes"]
FRAGMENTS = st.sampled_from(
    [*SPECIAL, " ", "\n\n", "The capital of China", "中国的首都", "0123456789", "'ll", "e\u0301"]
)
PIECES = st.lists(FRAGMENTS | TEXTS, max_size=6).map("".join)
ROOMS = (1, 2, 7, 100)
"""How many ids of its own a text may have."""

FIRST_ADDED = 151_643
PLAIN_ADDED = range(151_657, 151_669)
"""Added tokens that the vocabulary does not call special, from `<tool_call>` to `</think>`."""


@pytest.fixture(scope="module")
def embedding(artifact: Artifact) -> dict[int, TextTokenizer]:
    """The embedding artifact's tokenizer for each of ROOMS."""
    return load(artifact, 1)


@pytest.fixture(scope="module")
def rerank(rerank_artifact: Artifact) -> dict[int, TextTokenizer]:
    """The rerank artifact's tokenizer for each of ROOMS."""
    file = str(rerank_artifact.folder / rerank_artifact.manifest.tokenizer.path)
    contract = rerank_artifact.manifest.contract
    assert not isinstance(contract, EmbeddingContract)
    template = Tokenizer.from_file(file)
    around = sum(len(template.encode(text).ids) for text in (contract.prefix, contract.suffix))
    return load(rerank_artifact, around)


def load(artifact: Artifact, around: int) -> dict[int, TextTokenizer]:
    file: Path = artifact.folder / artifact.manifest.tokenizer.path
    return {room: TextTokenizer.load(file, artifact.manifest, max_tokens=room + around) for room in ROOMS}


def check(tokenizer: TextTokenizer, reference: Tokenizer, room: int, texts: list[str]) -> list[int]:
    """What must hold for any texts; returns their own ids."""
    found = tokenizer.encode(texts)
    alone = [tokenizer.encode([text]) for text in texts]
    assert sum((one.truncation for one in alone), Truncation()) == found.truncation
    before, after = len(tokenizer.before), len(tokenizer.after)
    lost, body = [], []
    for text, row, one in zip(texts, found.ids, alone, strict=True):
        own = reference.encode(text, add_special_tokens=False).ids
        np.testing.assert_array_equal(row, one.ids[0])
        assert row.dtype == np.uint32
        assert len(row) <= tokenizer.max_tokens
        assert row[:before].tolist() == tokenizer.before.tolist()
        assert row[len(row) - after :].tolist() == tokenizer.after.tolist()
        assert row[before : len(row) - after].tolist() == own[:room]
        lost.append(max(len(own) - room, 0))
        body.extend(own[:room])
    assert found.truncation == Truncation(sum(map(bool, lost)), sum(lost), max(lost, default=0))
    return body


@fuzz(900)
@given(st.sampled_from(ROOMS), st.lists(PIECES, max_size=4))
def test_an_embedding_row_is_a_texts_own_ids_and_the_end_token(
    embedding: dict[int, TextTokenizer], reference: Tokenizer, room: int, texts: list[str]
) -> None:
    body = check(embedding[room], reference, room, texts)
    assert all(number < FIRST_ADDED or number in PLAIN_ADDED for number in body)
    assert embedding[room].after.tolist() == [FIRST_ADDED]


@fuzz(900)
@given(st.sampled_from(ROOMS), st.lists(PIECES, max_size=4))
def test_a_rerank_row_is_a_texts_own_ids_in_the_template(
    rerank: dict[int, TextTokenizer], strict_reference: Tokenizer, room: int, texts: list[str]
) -> None:
    """Nothing that the template is made of can be written in a text, `<think>` included."""
    body = check(rerank[room], strict_reference, room, texts)
    template = {*rerank[room].before.tolist(), *rerank[room].after.tolist()}
    assert not {number for number in body if number >= FIRST_ADDED} & template
    assert all(number < FIRST_ADDED or number in PLAIN_ADDED for number in body)


@pytest.fixture(scope="module")
def reference(tokenizer_file: Path) -> Tokenizer:
    """`tokenizers` itself, with special tokens as plain text."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def strict_reference(plain_tokenizer_file: Path) -> Tokenizer:
    """The same, where `<think>` and `</think>` count as special too."""
    tokenizer = Tokenizer.from_file(str(plain_tokenizer_file))
    tokenizer.add_special_tokens(["<think>", "</think>"])
    tokenizer.encode_special_tokens = True
    return tokenizer
