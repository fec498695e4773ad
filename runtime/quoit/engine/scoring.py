"""Turn the difference of two logits into the score of a pair, P(yes), and sort scores.

The graph gives logit(yes) - logit(no). The softmax over these two answers is the sigmoid of the difference (model card,
Qwen/Qwen3-Reranker-0.6B).
"""

from typing import Literal, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray

from quoit.arguments import check_number
from quoit.errors import ComputeError, InputError, shown

Scores = NDArray[np.float32]
Activation = Literal["sigmoid", "logit"]


def check_activation(activation: Activation) -> None:
    """Refuse an unknown activation.

    Raises:
        InputError: the activation is neither `sigmoid` nor `logit`.
    """
    if not isinstance(activation, str) or activation not in get_args(Activation):
        raise InputError(f"activation {shown(activation)} is unknown; choose one of {', '.join(get_args(Activation))}")


def check_finite(logits: Scores) -> Scores:
    """Return the logits unchanged, after a check that all of them are finite.

    Raises:
        ComputeError: a logit is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits))[0])
        raise ComputeError(
            f"the model gave {logits[row]} for pair {row} of {len(logits)}; use another precision, and `quoit doctor` "
            "to check the artifact"
        )
    return logits


def activate(logits: Scores, activation: Activation) -> Scores:
    """Return the scores of logits, [n] for [n]: P(yes) in 0..1 for `sigmoid`, the logits unchanged for `logit`."""
    if activation == "logit":
        return logits
    return sigmoid(logits).astype(np.float32)


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return P(yes) of logit(yes) - logit(no), in float64 and without overflow for any logit."""
    probabilities: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
    return probabilities


def check_top_k(top_k: SupportsIndex | None) -> int | None:
    """Validate `top_k` and return it as an int; None stands for all results.

    Raises:
        InputError: `top_k` is not a whole number from 1 on.
    """
    return None if top_k is None else check_number("top_k", top_k, 1, advice=", or None for all")


def best_first(scores: NDArray[np.floating], top_k: SupportsIndex | None) -> NDArray[np.int64]:
    """Return the positions of the `top_k` highest scores, best first; equal scores keep their order."""
    order: NDArray[np.int64] = np.argsort(-scores, kind="stable")[: check_top_k(top_k)]
    return order
