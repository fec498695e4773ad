"""How near a variant's states are to those of float32, on the same texts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit_export.verify.parity import NEAREST, neighbours, overlap

DIGITS = 6

States = NDArray[np.floating[Any]]
"""States of the last token behind the final norm [texts, hidden], not of unit length."""


def closeness(found: States, reference: States) -> dict[str, dict[str, float]]:
    """Return mean and least of each measure over all texts; 1 means that both are the same.

    A causal model's states share a large direction, so their plain cosine says little. Without that direction:

    - `centred`: cosine of unit vectors, each minus the mean of its own side's.
    - `centred on fp32`: cosine of states, each minus the mean of the reference's, so that a shift of all counts too.

    `cosine` is that of the states, and `top10` the share of a text's ten nearest texts that stay among them.
    """
    left, right = found.astype(np.float64), reference.astype(np.float64)
    near, far = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right))
    mean = right.mean(axis=0)
    measures = {
        "cosine": cosines(left, right),
        "centred": cosines(near - near.mean(axis=0), far - far.mean(axis=0)),
        "centred on fp32": cosines(left - mean, right - mean),
        "top10": overlap(neighbours(near), neighbours(far), NEAREST),
    }
    return {
        name: {"mean": round(float(values.mean()), DIGITS), "least": round(float(values.min()), DIGITS)}
        for name, values in measures.items()
    }


def cosines(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each row with the other's."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    found: NDArray[np.float64] = np.einsum("nd,nd->n", left, right) / lengths
    return found
