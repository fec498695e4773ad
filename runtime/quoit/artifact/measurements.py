"""What export measured of a variant, and how it chose the way to make it."""

from typing import Annotated

import msgspec

from quoit.artifact.names import Digest, GraphName, Measure, Positive

HELD_OUT = "held-out"
"""Name of the held-out sample."""
NOTES: dict[GraphName, str] = {"emulated": " as CUDA computes", "saturating": " with 7-bit activations"}
"""Words for the graphs that are measured besides a variant's first one."""


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How close a variant's answers are to those of `reference`; 1 is the same.

    `measure` is `cosine` of vectors, over texts; `agreement`, one minus the distance of P(yes), over pairs;
    `spearman`, the rank correlation of scores, over queries; and over texts, of their similarities to all others,
    `top10`, how many of the ten nearest stay among them, and `ranking`, the rank correlation.

    Attributes:
        measure: one of the above.
        reference: what the answers are compared with.
        texts: the name of the sample: HELD_OUT, or `calibration`.
        samples: the number of samples.
        mean: the mean of all samples.
        p1: the first percentile.
        minimum: the value of the worst sample.
        floor: the least value that `minimum` may have; None where the measure is only recorded.
        mean_floor: the least value that `mean` may have.
        graph: the graph of the variant that was measured.
    """

    measure: Measure
    reference: str
    texts: str
    samples: int
    mean: float
    p1: float
    minimum: float
    floor: float | None
    mean_floor: float | None
    graph: GraphName = "cpu"

    @property
    def passes(self) -> bool:
        """Whether mean and minimum are at or above their floors."""
        floors = ((self.minimum, self.floor), (self.mean, self.mean_floor))
        return all(floor is None or value >= floor for value, floor in floors)

    @property
    def note(self) -> str:
        """Words for the graph that was measured, where that is not the first one."""
        return NOTES.get(self.graph, "")

    def shortfall(self) -> str:
        """The values below their floor, in words."""
        floors = (("least", self.minimum, self.floor), ("mean", self.mean, self.mean_floor))
        missed = [
            f"{name} {value:.5f}, below {floor}"
            for name, value, floor in floors
            if floor is not None and not value >= floor
        ]
        return " and ".join(missed)


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The texts whose activations decided how weights were prepared.

    Attributes:
        source: `built-in`, or the name of a file.
        sha256: the hash of the texts.
        texts: the number of texts or pairs that were run.
        tokens: the number of their tokens.
    """

    source: str
    sha256: Digest
    texts: Positive
    tokens: Positive


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an int8 or int4 variant's weights were prepared, and how that was chosen.

    Attributes:
        method: the folds that were made, as in `errors`.
        alpha: the exponent of smoothing; None where nothing was smoothed.
        seed: the seed of rotations; None where nothing was rotated.
        float32_layers: the linear layers that stay in float32.
        int8_layers: of int4, the linear layers that are stored as in int8.
        steps: by the first of the linear layers that read it, the step in which an input is rounded in all rows; other
            inputs are rounded in 127ths of each row's largest magnitude.
        int8_table: whether the token table is int8, each row with its scale, and not float16.
        calibration: the texts that it was chosen on.
        errors: the predicted error of every method that was tried: the squared error relative to the output, as a mean
            over linear layers and tokens, and what a float16 token table adds.
    """

    method: str
    alpha: float | None
    seed: int | None
    float32_layers: tuple[str, ...]
    int8_layers: tuple[str, ...]
    steps: dict[str, float]
    int8_table: bool
    calibration: Calibration
    errors: dict[str, float]

    def describe(self) -> str:
        """What was chosen and why, in one line."""
        others = [error for name, error in self.errors.items() if name != self.method]
        kept = f", {len(self.float32_layers)} linear layers in float32" if self.float32_layers else ""
        kept += f", {len(self.int8_layers)} in int8" if self.int8_layers else ""
        against = f", {_share(min(others))} to {_share(max(others))} for {len(others)} other methods" if others else ""
        source = f"on {self.calibration.texts} {self.calibration.source} texts"
        return f"{self.method}{kept}: predicted error {_share(self.errors[self.method])}{against}, {source}"


def _share(error: float) -> str:
    """A squared error relative to the output; above 1 its size says nothing."""
    return f"{error:.2e}" if error <= 1 else ">1"


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The powers of two that keep an fp16 variant's values within float16, exactly.

    Attributes:
        stream: the residual stream is 2^-stream of the checkpoint's.
        products: the same exponent of each MLP's product, layer by layer.
        stream_peak: the largest magnitude of the unscaled stream on the calibration texts.
        product_peak: the largest magnitude of the unscaled products.
        calibration: those texts.
    """

    stream: Annotated[int, msgspec.Meta(ge=0)]
    products: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    stream_peak: float
    product_peak: float
    calibration: Calibration

    def describe(self) -> str:
        """What was chosen and why, in one line."""
        folded = f"stream times 2^-{self.stream}, products times 2^-{max(self.products)} at most"
        peaks = f"magnitudes up to {self.stream_peak:.3g} and {self.product_peak:.3g}"
        chosen = folded if self.stream or any(self.products) else "nothing scaled"
        return f"{chosen}: {peaks} on {self.calibration.texts} {self.calibration.source} texts"
