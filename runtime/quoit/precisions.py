"""List every precision that an artifact may have, with the facts that the runtime needs about it.

The names are those of `quoit.artifact.Precision`. `quoit_export.precisions.table` says how export stores each one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from quoit.artifact import Precision, ProviderName


@dataclass(frozen=True)
class PrecisionSpec:
    """Facts about a precision that hold for every model.

    Attributes:
        weight_bytes: number of bytes of one weight of a linear layer, with its share of the scales.
        integer_products: True if CPUs multiply integers; otherwise they multiply float32.
        ranks: rank of this precision for each provider, 1 for the preferred one. An absent provider does not run it.
        golden_tolerance: largest difference from the cosine scores of the model card that `quoit doctor` accepts. It
            is 0.01 even for fp32, since the card's scores come from reduced precision themselves.
        no_lone_row: True if CPUs may round a single row differently; see `quoit.ort.graph_inputs.InputContract`.
    """

    weight_bytes: float
    integer_products: bool
    ranks: Mapping[ProviderName, int]
    golden_tolerance: float
    no_lone_row: bool = False


PRECISIONS: dict[Precision, PrecisionSpec] = {
    "fp32": PrecisionSpec(4, integer_products=False, ranks={"cpu": 3}, golden_tolerance=0.01),
    "fp16": PrecisionSpec(2, integer_products=False, ranks={"cpu": 4, "cuda": 1}, golden_tolerance=0.01),
    "bf16": PrecisionSpec(2, integer_products=False, ranks={"cpu": 5, "cuda": 2}, golden_tolerance=0.02),
    "int8": PrecisionSpec(1, integer_products=True, ranks={"cpu": 1}, golden_tolerance=0.05),
    # A block of 32 weights, half a byte each, has one scale of four bytes.
    "int4": PrecisionSpec(
        0.625, integer_products=True, ranks={"cpu": 2, "cuda": 3}, golden_tolerance=0.1, no_lone_row=True
    ),
}


def _order(provider: ProviderName) -> tuple[Precision, ...]:
    """Return the precisions that a provider runs, the preferred one first."""
    runs = [name for name, spec in PRECISIONS.items() if provider in spec.ranks]
    return tuple(sorted(runs, key=lambda name: PRECISIONS[name].ranks[provider]))


PREFERRED: dict[ProviderName, tuple[Precision, ...]] = {name: _order(name) for name in get_args(ProviderName)}
"""Precisions that each provider runs, the preferred one first."""
