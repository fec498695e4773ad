"""Queries as people put them, token ids, and the states of last tokens: what training and measuring share.

This module does not know of losses.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from quoit.text.prompts import DEFAULT_TASK, INSTRUCTION_TEMPLATE
from train.pairs import Pair

TOKENS_PER_RUN = 8_192
"""Padding included; texts of similar length share a run."""

INSTRUCTIONS = {
    "wordnet": "Given a word, find its definition",
    "debian": "Given a summary, retrieve the description of the package",
    "docstrings": "Retrieve the documentation of the function that does this",
    "docs": "Retrieve the section of the manual about this topic",
}
QUESTIONS = ("what is {}?", "What does {} mean?", "definition of {}", "{}")


def reword(pair: Pair, choose: random.Random) -> str:
    """The query, of WordNet's words some left out or made a question; one query of ten changes its case."""
    query = pair.query
    if pair.source == "wordnet":
        words = query.split(", ")
        some = words if choose.random() < 0.5 else choose.sample(words, choose.randint(1, len(words)))
        query = choose.choice(QUESTIONS).format(", ".join(some)) if choose.random() < 0.4 else ", ".join(some)
    if choose.random() < 0.1:
        query = query.lower() if choose.random() < 0.5 else query[:1].upper() + query[1:]
    return query


def render_query(pair: Pair, choose: random.Random) -> str:
    """The reworded query under the official instruction (six of ten), another (one) or none (three)."""
    query = reword(pair, choose)
    kind = choose.random()
    if kind < 0.3:
        return query
    if kind < 0.4 and (task := INSTRUCTIONS.get(pair.source)):
        return INSTRUCTION_TEMPLATE.format(instruction=task) + query
    return INSTRUCTION_TEMPLATE.format(instruction=DEFAULT_TASK) + query


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> list[list[int]]:
    """Token ids, the end token last whatever was cut."""
    return [e.ids if len(e.ids) <= limit else [*e.ids[: limit - 1], e.ids[-1]] for e in tokenizer.encode_batch(texts)]


def last_states(model: Callable[..., Any], rows: Sequence[list[int]]) -> Tensor:
    """`[rows, hidden]` float32: the last token's state of each row of ids.

    Padding stands behind the text, where a causal model cannot see it, so no attention mask is needed.
    """
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    found, at = [], 0
    while at < len(order):
        end = at + 1
        while end < len(order) and (end + 1 - at) * len(rows[order[end]]) <= TOKENS_PER_RUN:
            end += 1
        run = [torch.tensor(rows[row]) for row in order[at:end]]
        with torch.autocast("cpu", torch.bfloat16):
            states = model(input_ids=pad_sequence(run, batch_first=True)).last_hidden_state
        found.append(states[torch.arange(len(run)), torch.tensor([len(row) - 1 for row in run])].float())
        at = end
    return torch.cat(found)[torch.tensor(order).argsort()]


def ndcg_at_10(scores: NDArray[np.float32]) -> float:
    """nDCG@10 where row i's only right answer is column i (Järvelin and Kekäläinen, 2002); it loses every tie."""
    ranks = (scores >= np.diagonal(scores)[:, None]).sum(axis=1) - 1
    return float(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean())
