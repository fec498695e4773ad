"""List every precision with the encoding, floors and graphs by which export makes it.

| precision | linear layers                                              | token table            | between them |
|-----------|------------------------------------------------------------|------------------------|--------------|
| fp32      | MatMul, float32                                            | float32                | float32      |
| fp16      | MatMul, float16                                            | float16                | float16      |
| bf16      | MatMul, bfloat16                                           | bfloat16               | bfloat16     |
| int8      | uint8 activations x int8 weights per output column         | int8 per row, float16  | float32      |
| int4      | MatMulNBits, 4 bits in blocks of 32, or as in int8         | int8 per row, float16  | float32      |

The names are those of `quoit.artifact.Precision`; the runtime's table is `quoit.precisions`. A floor is the minimum for
every sample. A mean floor is the minimum for the mean, if that says more than the worst sample; see
`quoit.artifact.Parity`. The share of ten nearest texts that stay has a mean floor alone, since a single text can lose
several by chance. `export/README.md` says what the floors rest on.
"""

from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from quoit.artifact import GraphName, Measure, Precision
from quoit_export.precisions.encoding import Encoding
from quoit_export.precisions.floats import FloatEncoding
from quoit_export.precisions.int4 import Int4Encoding
from quoit_export.precisions.int8 import Int8Encoding

REFERENCE: Precision = "fp32"
"""Precision that the others are compared with and calibrated on."""
DEFAULTS: tuple[Precision, ...] = (REFERENCE, "int8")
"""Precisions that `quoit-export` writes by default."""


@dataclass(frozen=True)
class PrecisionSpec:
    """Encoding, floors and graphs of a precision.

    Attributes:
        encoding: the encoding of the tensors if calibration does not decide it.
        floors: the minimum for every sample, by measure.
        mean_floors: the minimum for the mean, by measure.
        snippet_floors: the minimum for the mean of snippets, by measure. A single snippet may be far off.
        native_floors: the minimum for every sample with native attention, instead of all other floors; None for the
            same floors. Two ways to compute in float32 differ as far as the model magnifies their rounding.
        graphs: graphs besides the one that CPUs run. A variant without integer products has no saturating graph.
        weight_only: True if CUDA multiplies the stored weights by values that are not rounded to integers.
        scaled: True if calibration chooses powers of two that keep values within range.
        bits: bits of the weights that calibration chooses folds for; None for a precision that is not quantized.
        goals: mean and minimum, on the calibration texts, at which no more rows take a second pass, by measure.
        narrow_goals: the same for activations of 7 bits.
    """

    encoding: Encoding
    floors: dict[Measure, float]
    mean_floors: dict[Measure, float] = field(default_factory=dict)
    snippet_floors: dict[Measure, float] = field(default_factory=dict)
    native_floors: dict[Measure, float] | None = None
    graphs: tuple[GraphName, ...] = ()
    weight_only: bool = False
    scaled: bool = False
    bits: Literal[8, 4] | None = None
    goals: dict[Measure, tuple[float, float]] = field(default_factory=dict)
    narrow_goals: dict[Measure, tuple[float, float]] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """True if calibration texts decide how a variant is made."""
        return self.scaled or self.bits is not None


PRECISIONS: dict[Precision, PrecisionSpec] = {
    "fp32": PrecisionSpec(
        FloatEncoding(ir.DataType.FLOAT),
        floors={"cosine": 0.99999, "centred": 0.999, "agreement": 1 - 1e-5, "spearman": 0.9999},
        mean_floors={"centred": 0.9999, "top10": 0.99},
        native_floors={"cosine": 0.999, "agreement": 0.999},
        graphs=("native_attention",),
    ),
    "fp16": PrecisionSpec(
        FloatEncoding(ir.DataType.FLOAT16),
        floors={"cosine": 0.9995, "centred": 0.95, "agreement": 0.99, "spearman": 0.99},
        mean_floors={"centred": 0.995, "top10": 0.92},
        graphs=("cuda",),
        scaled=True,
    ),
    "bf16": PrecisionSpec(
        FloatEncoding(ir.DataType.BFLOAT16),
        floors={"cosine": 0.995, "centred": 0.85, "agreement": 0.9, "spearman": 0.8},
        mean_floors={"centred": 0.97, "top10": 0.85},
        graphs=("cuda",),
    ),
    "int8": PrecisionSpec(
        Int8Encoding(),
        floors={"cosine": 0.985, "centred": 0.8, "agreement": 0.9, "spearman": 0.8},
        mean_floors={"cosine": 0.995, "centred": 0.95, "top10": 0.8},
        snippet_floors={"cosine": 0.95, "centred": 0.85},
        graphs=("saturating", "native", "native_attention"),
        bits=8,
        goals={"cosine": (0.999, 0.995), "centred": (0.995, 0.98), "agreement": (0.98, 0.95)},
        narrow_goals={"cosine": (0.997, 0.985), "centred": (0.98, 0.93), "agreement": (0.97, 0.92)},
    ),
    "int4": PrecisionSpec(
        Int4Encoding(),
        floors={"cosine": 0.95, "centred": 0.7, "agreement": 0.8, "spearman": 0.7},
        mean_floors={"cosine": 0.98, "centred": 0.9, "top10": 0.7},
        snippet_floors={"cosine": 0.93, "centred": 0.8},
        graphs=("cuda", "emulated", "saturating", "native", "native_attention"),
        weight_only=True,
        bits=4,
    ),
}
