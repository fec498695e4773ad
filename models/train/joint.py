"""What a reranker reads: pairs in the official template; what pairs share is computed once.

Head (system prompt and instruction), query and document are three runs of one causal model: the head's keys and
values are lent to every query, those of head and query to each of the query's documents. This is what quoit's graph
does by index. This module does not know what is learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model, apply_rotary_pos_emb

from quoit.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX, Separator, render_pairs
from train.vocabulary import ANSWERS

TOKENS_PER_RUN = 8_192
"""Of documents, padding included; documents of similar length share a run."""
NOTHING = torch.zeros(1, 0, dtype=torch.bool)


@dataclass(frozen=True)
class Row:
    """The token ids of a query's pairs.

    Attributes:
        query: what its pairs share, up to the label of the document.
        documents: the rest of each pair.
    """

    query: list[int]
    documents: list[list[int]]


def render(tokenizer: Tokenizer, query: str, documents: Sequence[str], separator: Separator, limit: int) -> Row:
    """The ids of a query's pairs in the official template, documents cut to `limit` tokens."""
    pairs = [(query, document) for document in ("", *documents)]
    texts = [RERANK_PREFIX + text for text in render_pairs(pairs, DEFAULT_TASK, separator)]
    bare, *found = (encoding.ids for encoding in tokenizer.encode_batch(texts))
    suffix = tokenizer.encode(RERANK_SUFFIX).ids
    shared = len(bare) - 1  # without the space, which is part of the document's first token
    return Row(bare[:shared], [ids[shared : len(bare) + limit] + suffix for ids in found])


def answer_ids(tokenizer: Tokenizer) -> list[int]:
    """The tokens yes and no."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[answer] for answer in ANSWERS]


def run(model: Qwen3Model, ids: Tensor, starts: Tensor, lent: list[tuple[Tensor, Tensor]], seen: Tensor) -> Any:
    """One run of the layers behind lent keys and values.

    Args:
        model: its modules are used, not its forward, which would build masks and caches anew each time.
        ids: `[rows, tokens]`.
        starts: `[rows, 1]`, the position of each row's first token.
        lent: for each layer keys and values `[rows, heads, positions, head_dim]`; none before the head.
        seen: bool `[rows, positions]`, which of the lent positions are not padding.

    Returns:
        States `[rows, tokens, hidden]` after the last norm, and each layer's own keys and values.
    """
    states, kept = model.embed_tokens(ids), []
    cosine, sine = model.rotary_emb(states, starts + torch.arange(ids.shape[1])[None])
    rows, tokens = ids.shape
    own = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    mask = torch.cat([seen[:, None].expand(-1, tokens, -1), own[None].expand(rows, -1, -1)], dim=2)[:, None, None]
    for number, layer in enumerate(model.layers):
        attention: Any = layer.self_attn
        read = layer.input_layernorm(states)
        heads = (rows, tokens, -1, attention.head_dim)
        queries = attention.q_norm(attention.q_proj(read).view(heads)).transpose(1, 2)
        keys = attention.k_norm(attention.k_proj(read).view(heads)).transpose(1, 2)
        values = attention.v_proj(read).view(heads).transpose(1, 2)
        queries, keys = apply_rotary_pos_emb(queries, keys, cosine, sine)
        kept.append((keys, values))
        if lent:
            keys, values = (torch.cat(two, dim=2) for two in zip(lent[number], (keys, values), strict=True))
        grouped = queries.reshape(rows, keys.shape[1], -1, tokens, attention.head_dim)
        logits = grouped @ keys[:, :, None].transpose(-1, -2) * attention.scaling
        weights = logits.masked_fill(~mask, -torch.inf).softmax(dim=-1, dtype=torch.float32).to(values.dtype)
        mixed = (weights @ values[:, :, None]).reshape(rows, -1, tokens, attention.head_dim)
        states = states + attention.o_proj(mixed.transpose(1, 2).reshape(rows, tokens, -1))
        states = states + layer.mlp(layer.post_attention_layernorm(states))
    return model.norm(states), kept


def common(rows: Sequence[Sequence[int]]) -> int:
    """How many first ids are the same in all rows, one less than the shortest at most."""
    shortest = min(map(len, rows)) - 1
    return next(
        (at for at, ids in enumerate(zip(*rows, strict=False)) if len(set(ids)) > 1 or at == shortest), shortest
    )


@dataclass(frozen=True)
class Lent:
    """What the rows' documents stand behind.

    Attributes:
        layers: for each layer keys and values `[queries, heads, positions, head_dim]`.
        seen: bool `[queries, positions]`, which of them are not padding.
        ends: `[queries, 1]`, the position of each document's first token.
    """

    layers: list[tuple[Tensor, ...]]
    seen: Tensor
    ends: Tensor


def lend(inner: Qwen3Model, queries: Sequence[list[int]], layers: Any) -> Lent:
    """Runs what all queries begin with once, then the rest of each."""
    at = common(queries)
    _, first = layers(inner, torch.tensor([queries[0][:at]]), torch.zeros(1, 1, dtype=torch.long), [], NOTHING)
    shared = [tuple(part.expand(len(queries), -1, -1, -1) for part in both) for both in first]
    tails = [torch.tensor(query[at:]) for query in queries]
    lengths = torch.tensor([[len(tail)] for tail in tails])
    ids = pad_sequence(tails, batch_first=True)
    everything = torch.ones(len(queries), at, dtype=torch.bool)
    _, second = layers(inner, ids, torch.full_like(lengths, at), shared, everything)
    joined = [
        tuple(torch.cat(two, dim=2) for two in zip(one, other, strict=True))
        for one, other in zip(shared, second, strict=True)
    ]
    seen = torch.cat([everything, torch.arange(ids.shape[1])[None] < lengths], dim=1)
    return Lent(joined, seen, at + lengths)


def read(model: Any, rows: Sequence[Row], answers: Sequence[int], layers: Any = run) -> Tensor:
    """Logit of yes minus logit of no, float32 `[queries, documents]`; as many documents in every row.

    Args:
        model: a Qwen3ForCausalLM.
        rows: queries and their documents.
        answers: the ids of yes and no.
        layers: `run`, or what torch.compile makes of it.
    """
    inner = model.model
    texts = [(number, document) for number, row in enumerate(rows) for document in row.documents]
    order = sorted(range(len(texts)), key=lambda index: len(texts[index][1]))
    last, start = [], 0
    with torch.autocast("cpu", torch.bfloat16):
        lent = lend(inner, [row.query for row in rows], layers)
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(texts[order[end]][1]) <= TOKENS_PER_RUN:
                end += 1
            part = [texts[index] for index in order[start:end]]
            of = torch.tensor([number for number, _ in part])
            ids = pad_sequence([torch.tensor(document) for _, document in part], batch_first=True)
            borrowed = [tuple(one[of] for one in both) for both in lent.layers]
            states, _ = layers(inner, ids, lent.ends[of], borrowed, lent.seen[of])
            ends = torch.tensor([len(document) - 1 for _, document in part])
            last.append(states[torch.arange(len(part)), ends].float())
            start = end
    yes, no = model.lm_head.weight[list(answers)]
    scores: Tensor = torch.cat(last)[torch.tensor(order).argsort()] @ (yes - no)
    return scores.reshape(len(rows), -1)
