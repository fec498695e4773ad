"""What a reranker reads: pairs in the official template. This module does not know what is learned."""

from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor

from quoit.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX, Separator, render_pairs
from train.encode import last_states
from train.vocabulary import ANSWERS


def render(
    tokenizer: Tokenizer, query: str, documents: Sequence[str], separator: Separator, limit: int
) -> list[list[int]]:
    """The ids of a query's pairs in the official template, documents cut to `limit` tokens."""
    pairs = [(query, document) for document in ("", *documents)]
    texts = [RERANK_PREFIX + text for text in render_pairs(pairs, DEFAULT_TASK, separator)]
    bare, *found = (encoding.ids for encoding in tokenizer.encode_batch(texts))
    suffix = tokenizer.encode(RERANK_SUFFIX).ids
    return [ids[: len(bare) + limit] + suffix for ids in found]


def answer_ids(tokenizer: Tokenizer) -> list[int]:
    """The tokens yes and no."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[answer] for answer in ANSWERS]


def read(model: Any, rows: Sequence[list[int]], answers: Sequence[int], layers: Callable[..., Any]) -> Tensor:
    """Logit of yes minus logit of no, float32 `[rows]`.

    Args:
        model: a Qwen3ForCausalLM.
        rows: token ids of pairs.
        answers: the ids of yes and no.
        layers: `model.model`, or what torch.compile makes of it.
    """
    yes, no = model.lm_head.weight[list(answers)]
    found: Tensor = last_states(layers, rows) @ (yes - no)
    return found
