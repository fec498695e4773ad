"""Scale tensors by exact powers of two that keep float16 finite.

| fold     | scaled value               | stored times a power of two                                        |
|----------|----------------------------|--------------------------------------------------------------------|
| stream   | the residual stream, 2^-k  | token table, o_proj, down_proj times 2^-k; norm epsilon times 2^-2k |
| products | SwiGLU's product, 2^-j     | up_proj times 2^-j, down_proj times 2^j; layer by layer             |

A norm removes the stream's scale again, and down_proj removes the product's. So the function stays the same, bit for
bit in float32: multiplying by a power of two rounds nothing. The largest value of float16 is 65,504, and its smallest
of full precision is 6e-5. So exponents are the smallest that leave HEADROOM above the largest magnitude that
calibration saw. Values that no fold reaches, such as q, k and v, are checked only by the parity gate. This module does
not know how magnitudes are observed.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import ceil, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit.artifact import Scaling
from quoit_export.graph.architecture import Architecture
from quoit_export.graph.targets import RESIDUAL
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.quantize.calibration import Observed

HEADROOM = 4.0
"""Minimum ratio of float16's largest value to the largest observed magnitude after scaling."""
FLOAT16_MAX = float(np.finfo(np.float16).max)


def choose_scaling(observed: Observed) -> Scaling:
    """Return the scaling with the smallest exponents that leave HEADROOM for the observed magnitudes."""
    activations, architecture = observed.activations, observed.architecture
    outputs = activations.outputs
    written = [outputs[writer] for writer in architecture.stream_writers]
    summed = [peak for name, peak in outputs.items() if name.startswith(RESIDUAL)]
    stream = max(float(np.abs(observed.read(architecture.token_table)).max()), *written, *summed)
    products = [
        max(float(activations.largest[one.name].max()), outputs[str(one.producer)]) for one in architecture.gated
    ]
    return Scaling(
        stream=exponent(stream),
        products=tuple(exponent(peak) for peak in products),
        stream_peak=stream,
        product_peak=max(products),
        calibration=observed.calibration,
    )


def exponent(peak: float) -> int:
    """Return the smallest k >= 0 for which peak * 2^-k * HEADROOM is within float16."""
    return max(0, ceil(log2(peak * HEADROOM / FLOAT16_MAX))) if peak > 0 else 0


@dataclass(frozen=True)
class Scaled:
    """Multiplies tensors by the powers of two of a scaling, as they are read.

    Attributes:
        record: the scaling.
        architecture: the architecture, which says which tensors are scaled.
    """

    record: Scaling
    architecture: Architecture

    @property
    def stream_scale(self) -> float:
        """Factor by which the residual stream is multiplied."""
        return 2.0**-self.record.stream

    def reader(self, read: ReadTensor) -> ReadTensor:
        """Return a reader of scaled tensors by name; scaled tensors are float32."""

        def scaled(name: str) -> NDArray[Any]:
            power = self._powers[name]
            return read(name) if power == 0 else np.ldexp(read(name).astype(np.float32), power)

        return scaled

    @cached_property
    def _powers(self) -> Counter[str]:
        """Exponents by tensor; a tensor that is missing has exponent zero."""
        architecture, stream = self.architecture, self.record.stream
        powers = Counter({architecture.token_table: -stream})
        powers.update({f"{writer}.weight": -stream for writer in architecture.stream_writers})
        for source, product in zip(architecture.gated, self.record.products, strict=True):
            powers.update({f"{source.producer}.weight": -product, f"{source.name}.weight": product})
        return powers
