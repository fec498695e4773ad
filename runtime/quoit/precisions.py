"""Every precision that an artifact may have, and what the runtime needs to know of it: one entry a precision.

The names are those of `quoit.artifact.Precision`. How export stores each is in `quoit_export.precisions.table`. This
module does not know how a precision computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from quoit.artifact import Precision, ProviderName


@dataclass(frozen=True)
class PrecisionSpec:
    """What is known of a precision, whatever the model.

    Attributes:
        weight_bytes: bytes of one weight of a linear layer, with its share of the scales.
        integer_products: True if CPUs multiply integers; otherwise they multiply float32.
        ranks: by provider, the place in the order of preference, 1 first; a provider that is absent does not run it.
        golden_tolerance: largest difference from the cosine scores of the model card that `quoit doctor` accepts. The
            card's scores come from reduced precision themselves, hence 0.01 for fp32.
    """

    weight_bytes: float
    integer_products: bool
    ranks: Mapping[ProviderName, int]
    golden_tolerance: float


PRECISIONS: dict[Precision, PrecisionSpec] = {
    "fp32": PrecisionSpec(4, integer_products=False, ranks={"cpu": 3}, golden_tolerance=0.01),
    "fp16": PrecisionSpec(2, integer_products=False, ranks={"cpu": 4, "cuda": 1}, golden_tolerance=0.01),
    "bf16": PrecisionSpec(2, integer_products=False, ranks={"cpu": 5, "cuda": 2}, golden_tolerance=0.02),
    "int8": PrecisionSpec(1, integer_products=True, ranks={"cpu": 1}, golden_tolerance=0.05),
    # A block of 32 weights of half a byte has one scale of four bytes.
    "int4": PrecisionSpec(0.625, integer_products=True, ranks={"cpu": 2, "cuda": 3}, golden_tolerance=0.1),
}


def _order(provider: ProviderName) -> tuple[Precision, ...]:
    """The precisions that a provider runs, by rank."""
    runs = [name for name, spec in PRECISIONS.items() if provider in spec.ranks]
    return tuple(sorted(runs, key=lambda name: PRECISIONS[name].ranks[provider]))


PREFERRED: dict[ProviderName, tuple[Precision, ...]] = {name: _order(name) for name in get_args(ProviderName)}
"""By provider, the precisions that it runs, the preferred one first."""
