"""Trains the small reranker: yes or no in the official template, on what the embedding model confuses.

Each query comes with its own document and others from the embedding's best 50. The documents of a query share
its prefix, which is computed once and lent to all as keys and values, as quoit's graph does it by index.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, Qwen3ForCausalLM, Qwen3Model

from quoit.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX, Separator, render_pairs
from qwen3_tokenizer import END_TOKEN
from train.course import Course, follow
from train.embedding import SAME_MEANING
from train.encode import last_states, ndcg_at_10, render_query, tokenize
from train.pairs import Pair, Taught
from train.student import LAYERS, configuration
from train.vocabulary import ANSWERS

CANDIDATES = 50
DOCUMENTS = 8
"""Documents of a query in a batch: the right one, NEAR of the embedding's best ten, and others of the best 50."""
NEAR = 4
QUERIES_PER_BATCH = 16
DOCUMENT_TOKENS = 128
ANSWER_WEIGHT = 0.5
TEACHER_WEIGHT = 0.3
TEACHER_TEMPERATURE = 0.05
QUERIES_MEASURED = 30

SUMMARIES = (">:", "ĊĊ")
"""Tokens of the template behind the query (of `<Document>:`) and at the very end."""
TURNING_PAIRS = 14
"""Of a head's 32 pairs of dimensions so many are turned by more than 0.3 in 100 tokens (rotary base 1e6)."""
SHARPNESS = 2.0
"""Weight of q_norm in the new layer: a cosine of one then gives an attention logit of 16."""

Row = tuple[list[int], list[list[int]]]
"""The token ids that a query's pairs share, and the rest of each."""


def start(embedding: Qwen3Model, tokenizer: Tokenizer, seed: int) -> Qwen3ForCausalLM:
    """The embedding model's layers, and one more whose heads begin by comparing the document with the query.

    Tokens of the template that stand behind the query and behind the document start as the end token, so that the
    states there start as the vectors of what stands before them. The new layer's queries and keys start as two slices
    of those vectors, in the dimensions of a head that the rotary embedding hardly turns within a text: attention
    from the last token to the query's end then grows with their similarity. Training finds what to make of that.
    """
    if missing := [text for text in SUMMARIES if tokenizer.token_to_id(text) is None]:
        raise ValueError(f"{missing} are no tokens of the vocabulary; learn it with more of the template")
    torch.manual_seed(seed)
    config = configuration(LAYERS + 1)
    model: Any = Qwen3ForCausalLM(config)
    model.model.load_state_dict(embedding.state_dict(), strict=False)
    new = model.model.layers[-1]
    still = torch.arange(TURNING_PAIRS, config.head_dim // 2)
    places = torch.cat([still, still + config.head_dim // 2])
    group = config.num_attention_heads // config.num_key_value_heads
    with torch.no_grad():
        table = model.model.embed_tokens.weight
        for text in SUMMARIES:
            table[tokenizer.token_to_id(text)] = table[tokenizer.token_to_id(END_TOKEN)]
        new.input_layernorm.weight.copy_(embedding.norm.weight)
        new.self_attn.q_norm.weight.fill_(SHARPNESS)
        for linear, heads in ((new.self_attn.q_proj, group), (new.self_attn.k_proj, 1)):
            weight = linear.weight.view(-1, config.head_dim, config.hidden_size)
            for head in range(len(weight)):
                first = head // heads * len(places)
                weight[head, places, first + torch.arange(len(places))] += 1
        for linear in (new.self_attn.o_proj, new.mlp.down_proj):
            linear.weight.mul_((2 * config.num_hidden_layers) ** -0.5)
    started: Qwen3ForCausalLM = model
    return started


def render(tokenizer: Tokenizer, query: str, documents: Sequence[str], separator: Separator) -> Row:
    """The ids of a query's pairs in the official template, documents cut to DOCUMENT_TOKENS."""
    pairs = [(query, document) for document in ("", *documents)]
    texts = [RERANK_PREFIX + text for text in render_pairs(pairs, DEFAULT_TASK, separator)]
    bare, *found = (encoding.ids for encoding in tokenizer.encode_batch(texts))
    suffix = tokenizer.encode(RERANK_SUFFIX).ids
    rows = [ids[: len(bare) + DOCUMENT_TOKENS] + suffix for ids in found]
    longest = min(map(len, rows)) - 1
    columns = enumerate(zip(*rows, strict=False))
    shared = next((at for at, column in columns if len(set(column)) > 1 or at == longest), longest)
    return rows[0][:shared], [row[shared:] for row in rows]


def answer_ids(tokenizer: Tokenizer) -> list[int]:
    """The tokens yes and no."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[answer] for answer in ANSWERS]


def score(model: Any, rows: Sequence[Row], answers: Sequence[int]) -> Tensor:
    """`[queries, documents]` float32: logit of yes minus logit of no; as many documents for every query.

    The prefixes are padded behind, where the mask hides the padding from the documents.
    """
    prefixes = pad_sequence([torch.tensor(shared) for shared, _ in rows], batch_first=True)
    tails = [torch.tensor(tail) for _, part in rows for tail in part]
    ids = pad_sequence(tails, batch_first=True)
    each = len(rows[0][1])
    starts = torch.tensor([len(shared) for shared, _ in rows]).repeat_interleave(each)[:, None]
    seen = torch.arange(prefixes.shape[1])[None] < starts
    with torch.autocast("cpu", torch.bfloat16):
        cache: Any = DynamicCache()
        model.model(input_ids=prefixes, use_cache=True, past_key_values=cache)
        cache.batch_repeat_interleave(each)
        states = model.model(
            input_ids=ids,
            attention_mask=torch.cat([seen, torch.ones_like(ids, dtype=torch.bool)], dim=1).long(),
            position_ids=starts + torch.arange(ids.shape[1])[None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
    last = states[torch.arange(len(tails)), torch.tensor([len(tail) - 1 for tail in tails])].float()
    yes, no = model.lm_head.weight[list(answers)]
    found: Tensor = (last @ (yes - no)).reshape(len(rows), each)
    return found


@torch.no_grad()
def nearest(embedding: Qwen3Model, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> dict[int, list[int]]:
    """For every pair the indices of the CANDIDATES documents of its source that the embedding ranks first."""
    found: dict[int, list[int]] = {}
    choose = random.Random(0)
    for source in dict.fromkeys(pair.source for pair in pairs):
        part = [index for index, pair in enumerate(pairs) if pair.source == source]
        sides = ([render_query(pairs[i], choose) for i in part], [pairs[i].document for i in part])
        queries, documents = (
            functional.normalize(last_states(embedding, tokenize(tokenizer, side, 2 * DOCUMENT_TOKENS)), dim=1)
            for side in sides
        )
        for at in range(0, len(part), 1_024):
            best = (queries[at : at + 1_024] @ documents.T).topk(min(CANDIDATES, len(part)), dim=1).indices
            found.update((part[at + row], [part[i] for i in ranked]) for row, ranked in enumerate(best.tolist()))
    return found


def choose_documents(index: int, others: Sequence[int], choose: random.Random) -> list[int]:
    """The right document first, then NEAR of the nearest ten others and the rest from all of them."""
    near = choose.sample(others[:10], NEAR)
    rest = [other for other in others if other not in near]
    return [index, *near, *choose.sample(rest, DOCUMENTS - 1 - NEAR)]


@torch.no_grad()
def measure(
    model: Qwen3ForCausalLM,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    candidates: Mapping[int, Sequence[int]],
) -> dict[str, float]:
    """nDCG@10 of each source over the embedding's candidates, before and after, for queries that have theirs."""
    answers = answer_ids(tokenizer)
    found: dict[str, float] = {}
    for source in dict.fromkeys(pair.source for pair in pairs):
        chosen = [i for i, pair in enumerate(pairs) if pair.source == source and i in candidates[i]]
        before, after = [], []
        for i in chosen[:QUERIES_MEASURED]:
            others = [c for c in candidates[i] if c != i]
            row = render(tokenizer, pairs[i].query, [pairs[c].document for c in (i, *others)], "\n")
            rank = list(candidates[i]).index(i)
            before.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
            after.append(ndcg_at_10(score(model, [row], answers).numpy()))
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


def wanted(taught: Taught, batch: Sequence[Sequence[int]]) -> Tensor:
    """`[queries, documents]`: what the teacher would choose, as probabilities."""
    rows = [taught.documents[chosen] @ taught.queries[chosen[0]] for chosen in batch]
    scores: NDArray[np.float32] = np.stack(rows).astype(np.float32)
    return functional.softmax(torch.from_numpy(scores) / TEACHER_TEMPERATURE, dim=1)


def train(
    model: Qwen3ForCausalLM,
    tokenizer: Tokenizer,
    taught: Taught,
    candidates: Mapping[int, Sequence[int]],
    development: tuple[Sequence[Pair], Mapping[int, Sequence[int]]],
    course: Course,
) -> None:
    """Trains `model` in place: the right document first, its answer yes, the others' no, and near the teacher's order.

    Args:
        model: as `start` makes it.
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

    def loss() -> Tensor:
        batch = next(deal)
        rows = [
            render(
                tokenizer,
                taught.pairs[chosen[0]].query,
                [taught.pairs[index].document for index in chosen],
                choose.choice(("\n", "\n\n")),
            )
            for chosen in batch
        ]
        scores = score(model, rows, answers)
        right = functional.one_hot(torch.zeros(len(rows), dtype=torch.long), DOCUMENTS).float()
        order = functional.cross_entropy(scores, right)
        answer = functional.binary_cross_entropy_with_logits(scores, right, pos_weight=balance)
        teacher = functional.cross_entropy(scores, wanted(taught, batch))
        return order + ANSWER_WEIGHT * answer + TEACHER_WEIGHT * teacher

    follow(course, model, loss, lambda: measure(model, tokenizer, *development))
