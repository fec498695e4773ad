"""Exact powers of two that keep float16 finite.

| fold     | what is smaller            | stored times a power of two                                        |
|----------|----------------------------|--------------------------------------------------------------------|
| stream   | the residual stream, 2^-k  | token table, o_proj, down_proj times 2^-k; norm epsilon times 2^-2k |
| products | SwiGLU's product, 2^-j     | up_proj times 2^-j, down_proj times 2^j; layer by layer             |

A norm takes the stream's scale away again, and down_proj the product's, so the function stays as it is, bit for bit in
float32: multiplying by a power of two rounds nothing. float16's largest value is 65,504 and its smallest of full
precision 6e-5, so exponents are the smallest that leave HEADROOM above the largest magnitude that calibration saw. What
no fold reaches, such as q, k and v, is left to the gate. This module does not know how magnitudes are observed.
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
"""How far the largest magnitude that was seen stays below float16's largest value."""
FLOAT16_MAX = float(np.finfo(np.float16).max)


def choose_scaling(observed: Observed) -> Scaling:
    """The smallest exponents that leave HEADROOM, for what was observed."""
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
    """The smallest k from 0 on with peak * 2^-k * HEADROOM within float16."""
    return max(0, ceil(log2(peak * HEADROOM / FLOAT16_MAX))) if peak > 0 else 0


@dataclass(frozen=True)
class Scaled:
    """Tensors times the powers of two of a scaling, as they are read.

    Attributes:
        record: the scaling.
        architecture: says which tensors it concerns.
    """

    record: Scaling
    architecture: Architecture

    @property
    def stream_scale(self) -> float:
        """What the residual stream is multiplied by."""
        return 2.0**-self.record.stream

    def reader(self, read: ReadTensor) -> ReadTensor:
        """Tensors by name, in float32 where they are scaled."""

        def scaled(name: str) -> NDArray[Any]:
            power = self._powers[name]
            return read(name) if power == 0 else np.ldexp(read(name).astype(np.float32), power)

        return scaled

    @cached_property
    def _powers(self) -> Counter[str]:
        """The exponents by tensor, where they are not zero."""
        architecture, stream = self.architecture, self.record.stream
        powers = Counter({architecture.token_table: -stream})
        powers.update({f"{writer}.weight": -stream for writer in architecture.stream_writers})
        for source, product in zip(architecture.gated, self.record.products, strict=True):
            powers.update({f"{source.producer}.weight": -product, f"{source.name}.weight": product})
        return powers
