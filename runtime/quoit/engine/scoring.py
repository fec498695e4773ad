"""Scores of pairs: from the difference of two logits to P(yes), and their order.

The graph gives logit(yes) - logit(no). Over those two answers, softmax is the sigmoid of the difference
(model card, Qwen/Qwen3-Reranker-0.6B). This module does not know about texts.
"""

from typing import Literal, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray

from quoit.arguments import check_number
from quoit.errors import ComputeError, InputError, shown

Scores = NDArray[np.float32]
Activation = Literal["sigmoid", "logit"]


def check_activation(activation: Activation) -> None:
    """Refuses an unknown activation.

    Raises:
        InputError: it is neither `sigmoid` nor `logit`.
    """
    if not isinstance(activation, str) or activation not in get_args(Activation):
        raise InputError(f"activation {shown(activation)} is unknown; choose one of {', '.join(get_args(Activation))}")


def check_finite(logits: Scores) -> Scores:
    """The logits themselves.

    Raises:
        ComputeError: one is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits))[0])
        raise ComputeError(
            f"the model gave {logits[row]} for pair {row} of {len(logits)}; use another precision, and `quoit doctor` "
            "to check the artifact"
        )
    return logits


def activate(logits: Scores, activation: Activation) -> Scores:
    """`sigmoid`: P(yes) in 0..1; `logit`: the difference as it is. [n] -> [n]."""
    if activation == "logit":
        return logits
    return sigmoid(logits).astype(np.float32)


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """P(yes) of logit(yes) - logit(no), in float64 and without overflow at any logit."""
    probabilities: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
    return probabilities


def check_top_k(top_k: SupportsIndex | None) -> int | None:
    """A number of results as an int; None stands for all.

    Raises:
        InputError: it is no whole number from 1 on.
    """
    return None if top_k is None else check_number("top_k", top_k, 1, advice=", or None for all")


def best_first(scores: NDArray[np.floating], top_k: SupportsIndex | None) -> NDArray[np.int64]:
    """The positions of the `top_k` highest scores, best first; equals keep their order."""
    order: NDArray[np.int64] = np.argsort(-scores, kind="stable")[: check_top_k(top_k)]
    return order
