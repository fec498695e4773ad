"""Trains the small reranker: yes or no in the official template, on what the embedding model confuses.

Each query comes with its own document and others from the embedding's best 50. This module does not know how pairs
are read.
"""

import math
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3ForCausalLM

from quoit import Embedder, Reranker
from quoit.artifact import Artifact
from quoit.prompts import Separator
from quoit.scoring import best_first
from quoit_export.checkpoint import open_checkpoint
from quoit_export.publish import Request, publish
from train.course import Course, follow
from train.encode import render_query, render_words
from train.joint import answer_ids, read, render
from train.losses import SAME_MEANING
from train.pairs import Pair, Taught
from train.student import write_checkpoint

CANDIDATES = 50
DOCUMENTS = 8
"""Documents of a query in a batch: the right one, NEAR of the embedding's best ten, and others of the best 50."""
NEAR = 4
QUERIES_PER_BATCH = 16
DOCUMENT_TOKENS = 128
SEPARATORS: tuple[Separator, ...] = ("\n", "\n\n")
ANSWER_WEIGHT = 0.5
QUERIES_MEASURED = 50


def export(checkpoint: Path) -> Artifact:
    """The checkpoint in float32, beside it, for quoit to run."""
    return publish(
        open_checkpoint(str(checkpoint)),
        Request(checkpoint.with_name(f"{checkpoint.name}-onnx"), ("fp32",), overwrite=True),
    )


def nearest(embedder: Embedder, pairs: Sequence[Pair]) -> dict[int, list[int]]:
    """For every pair the indices of the CANDIDATES documents of its source that the embedding ranks first."""
    found: dict[int, list[int]] = {}
    choose = random.Random(0)
    for source in dict.fromkeys(pair.source for pair in pairs):
        part = [index for index, pair in enumerate(pairs) if pair.source == source]
        queries = embedder.encode([render_query(pairs[index], choose) for index in part])
        documents = embedder.encode([pairs[index].document for index in part])
        for row, scores in zip(part, queries @ documents.T, strict=True):
            found[row] = [part[at] for at in best_first(scores, CANDIDATES)]
    return found


def choose_documents(index: int, others: Sequence[int], choose: random.Random) -> list[int]:
    """The right document first, then NEAR of the nearest ten others and the rest from all of them."""
    near = choose.sample(others[:10], NEAR)
    rest = [other for other in others if other not in near]
    return [index, *near, *choose.sample(rest, DOCUMENTS - 1 - NEAR)]


def measure(
    model: Qwen3ForCausalLM,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    candidates: Mapping[int, Sequence[int]],
) -> dict[str, float]:
    """nDCG@10 of each source over the embedding's candidates, before and after, for queries that have theirs.

    quoit itself computes the scores, in float32.
    """
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder) / "checkpoint", model, tokenizer)
        judge = Reranker(export(Path(folder) / "checkpoint"), provider="cpu")
        for source in dict.fromkeys(pair.source for pair in pairs):
            chosen = [i for i, pair in enumerate(pairs) if pair.source == source and i in candidates[i]]
            before, after = list[float](), list[float]()
            for i in chosen[:QUERIES_MEASURED]:
                ranked = judge.rank(pairs[i].query, [pairs[c].document for c in candidates[i]])
                places = (list(candidates[i]).index(i), [candidates[i][hit["index"]] for hit in ranked].index(i))
                for gains, place in zip((before, after), places, strict=True):
                    gains.append(1 / math.log2(place + 2) if place < 10 else 0.0)
            found |= {f"{source} before": round(float(np.mean(before)), 4), source: round(float(np.mean(after)), 4)}
    return found


def lessons(
    taught: Taught, candidates: Mapping[int, Sequence[int]], choose: random.Random
) -> Iterator[list[list[int]]]:
    """Batches without end: for every query the right document's index and those of DOCUMENTS - 1 others."""
    others = {}
    for index, ranked in candidates.items():
        alike = taught.documents[list(ranked)].astype(np.float32) @ taught.documents[index].astype(np.float32)
        group = taught.pairs[index].group
        distinct = [
            other
            for other, cosine in zip(ranked, alike, strict=True)
            if other != index and cosine <= SAME_MEANING and taught.pairs[other].group != group
        ]
        if len(distinct) >= DOCUMENTS + 10:
            others[index] = distinct
    if len(others) < QUERIES_PER_BATCH:
        raise ValueError(f"{len(others)} queries have enough distinct candidates; a batch needs {QUERIES_PER_BATCH}")
    while True:
        order = choose.sample(sorted(others), len(others))
        for at in range(0, len(order) - QUERIES_PER_BATCH + 1, QUERIES_PER_BATCH):
            yield [choose_documents(index, others[index], choose) for index in order[at : at + QUERIES_PER_BATCH]]


def train(
    model: Qwen3ForCausalLM,
    tokenizer: Tokenizer,
    taught: Taught,
    candidates: Mapping[int, Sequence[int]],
    development: tuple[Sequence[Pair], Mapping[int, Sequence[int]]],
    course: Course,
) -> None:
    """Trains `model` in place: the right document first, its answer yes, the others' no.

    Args:
        model: as `judge.start` makes it.
        tokenizer: without the end token.
        taught: pairs and their teacher's vectors.
        candidates: for pairs' indices, what `nearest` found.
        development: pairs that are measured on the way, and their candidates.
        course: how long.
    """
    choose = random.Random(course.seed)
    answers = answer_ids(tokenizer)
    deal = lessons(taught, candidates, choose)
    balance = torch.tensor(DOCUMENTS - 1.0)
    compiled = torch.compile(model.model, dynamic=True)

    def loss() -> Tensor:
        batch, separator = next(deal), choose.choice(SEPARATORS)
        rows = [
            ids
            for chosen in batch
            for ids in render(
                tokenizer,
                render_words(taught.pairs[chosen[0]], choose),
                [taught.pairs[index].document for index in chosen],
                separator,
                DOCUMENT_TOKENS,
            )
        ]
        scores = read(model, rows, answers, compiled).reshape(-1, DOCUMENTS)
        right = functional.one_hot(torch.zeros(len(batch), dtype=torch.long), DOCUMENTS).float()
        order = functional.cross_entropy(scores, right)
        answer = functional.binary_cross_entropy_with_logits(scores, right, pos_weight=balance)
        return order + ANSWER_WEIGHT * answer

    follow(course, model, loss, lambda: measure(model, tokenizer, *development))
