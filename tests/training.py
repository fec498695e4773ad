"""What the tests of models/train have in common."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, processors

from support import byte_tokenizer
from train import judge, student
from train.pairs import Pair, Taught

HELD_OUT = Path(__file__).parents[1] / "bench" / "corpora" / "heldout"
TEACHER = 384
TINY = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
BFLOAT16 = 0.03
"""How far computing in bfloat16 may lead, relative to the largest absolute value."""
PARAGRAPH = "It returns what the caller asked for, and nothing else at all."

Vectors = NDArray[np.float32]


def make_pairs(count: int, source: str = "debian") -> list[Pair]:
    """Pairs that have nothing in common, each a group of its own."""
    return [Pair(source, f"{source}/{n}", f"summary {n}", f"description of package number {n}") for n in range(count)]


def unit_rows(count: int, width: int, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    found: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def make_taught(pairs: list[Pair], seed: int = 0) -> Taught:
    """Pairs with random teacher vectors, which are nearly orthogonal."""
    queries, documents = (unit_rows(len(pairs), TEACHER, seed + side).astype(np.float16) for side in (0, 1))
    return Taught(pairs, queries, documents)


def random_ids(generator: np.random.Generator, size: int) -> list[int]:
    found: list[int] = generator.integers(1, TINY["vocab_size"], size).tolist()
    return found


def embedding_tokenizer() -> Tokenizer:
    """Bytes, an appended end token, and the labels of a query's prompt."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(list(student.LABELS))
    return tokenizer


def rerank_tokenizer() -> Tokenizer:
    """Bytes and the tokens that a reranker needs; nothing is appended."""
    tokenizer = byte_tokenizer()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False, use_regex=False)
    tokenizer.add_tokens(sorted(judge.TEMPLATE))
    return tokenizer
