"""Define the records of export's measurements of a variant, and of the choices that made it."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from quoit.artifact.names import Digest, GraphName, Measure, Positive

HELD_OUT = "held-out"
"""Name of the held-out sample."""
SNIPPETS = "snippet"
"""Name of the sample of held-out single tokens, fragments and code."""
NOTES: dict[GraphName, str] = {
    "emulated": " as CUDA computes",
    "saturating": " with 7-bit activations",
    "native": " with native kernels",
    "native_attention": " with native attention",
}
"""Words for messages about the graphs that are measured in addition to a variant's first one."""


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Closeness of a variant's answers to those of `reference`; 1 means that they are the same.

    The measures are:

    - `cosine`: cosine of vectors; one sample for each text.
    - `centred`: cosine of unit vectors, each minus the mean of its own side's vectors of the sample, so without the
      direction that all texts share; one sample for each text.
    - `agreement`: one minus the distance of P(yes); one sample for each pair.
    - `spearman`: rank correlation of scores; one sample for each query.
    - `top10`: share of a text's ten nearest texts that stay among its ten nearest; one sample for each text.
    - `ranking`: rank correlation of a text's similarities to all others; one sample for each text.

    Attributes:
        measure: name of the measure, one of the above.
        reference: name of the model or variant that the answers are compared with.
        texts: name of the sample: HELD_OUT, SNIPPETS, or `calibration`.
        samples: number of samples.
        mean: mean over all samples.
        p1: first percentile.
        minimum: value of the worst sample.
        floor: smallest value allowed for `minimum`; None if it is only recorded.
        mean_floor: smallest value allowed for `mean`; None if it is only recorded.
        graph: name of the variant's graph that was measured.
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
        """Return whether mean and minimum are at or above their floors."""
        floors = ((self.minimum, self.floor), (self.mean, self.mean_floor))
        return all(floor is None or value >= floor for value, floor in floors)

    @property
    def note(self) -> str:
        """Return words for the graph that was measured; empty for the variant's first graph."""
        return NOTES.get(self.graph, "")

    @property
    def recorded(self) -> bool:
        """Return whether the measure is only recorded, without a floor."""
        return self.floor is None and self.mean_floor is None

    def shortfall(self) -> str:
        """Return the measure, what it was measured on, and each value below its floor with that floor, in words."""
        floors = (("least", self.minimum, self.floor), ("mean", self.mean, self.mean_floor))
        missed = " and ".join(
            f"{name} {value:.5f}, below {floor}"
            for name, value, floor in floors
            if floor is not None and not value >= floor
        )
        return f"{self.measure} to {self.reference} on {self.texts} texts{self.note} {missed}"


def shortfalls(parity: Sequence[Parity]) -> str:
    """Return the missed floors in words: of each measure the first record below one, and the number of others."""
    missed = [one for one in parity if not one.passes]
    first = {one.measure: one for one in reversed(missed)}
    named = [one.shortfall() for one in missed if one is first[one.measure]]
    more = len(missed) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The texts whose activations decided how weights were prepared.

    Attributes:
        source: `built-in`, or the name of a file.
        sha256: hash of the texts.
        texts: number of texts or pairs that were run.
        tokens: number of their tokens.
    """

    source: str
    sha256: Digest
    texts: Positive
    tokens: Positive


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The choices that prepared an int8 or int4 variant's weights, with the predicted errors that they rest on.

    Attributes:
        method: name of the folds that were made, a key of `errors`.
        alpha: exponent of smoothing; None without smoothing.
        seed: seed of rotations; None without rotation.
        float32_layers: names of the linear layers that stay in float32.
        int8_layers: names of the linear layers of an int4 variant that are stored as int8.
        steps: fixed steps that inputs are rounded to in all rows, by the first linear layer that reads the input. Other
            inputs are rounded to 127ths of each row's largest magnitude.
        int8_table: True if the token table is int8 with a scale for each row, False if it is float16.
        calibration: texts that the choice was made on.
        second_pass: thresholds of the inputs that have rows with a second pass, by the first linear layer that reads
            them: the ratio of a row's largest magnitude to its length (L2 norm) above which it takes one; all rows do
            if it is 0.
        narrow_second_pass: the same for the graph with 7-bit activations.
        second_pass_cost: multiply-adds of the second passes on the calibration texts, as a share of all; 0 if they were
            not counted, as in int4.
        error_feedback: True if weights were rounded so that each value makes up for the errors of those before it.
        errors: predicted error of every method that was tried: the squared error relative to the output, as a mean
            over linear layers and tokens, plus the error that a float16 token table adds.
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
    second_pass: dict[str, float] = {}
    narrow_second_pass: dict[str, float] = {}
    second_pass_cost: float = 0.0
    error_feedback: bool = False

    def describe(self) -> str:
        """Return the choice and the reason for it, in one line."""
        others = [error for name, error in self.errors.items() if name != self.method]
        kept = f", {len(self.float32_layers)} linear layers in float32" if self.float32_layers else ""
        kept += f", {len(self.int8_layers)} in int8" if self.int8_layers else ""
        share = f"{self.second_pass_cost:.1%}" if self.second_pass_cost else f"{len(self.second_pass)} inputs with"
        kept += f", {share} second passes" if self.second_pass else ""
        against = f", {_share(min(others))} to {_share(max(others))} for {len(others)} other methods" if others else ""
        source = f"on {self.calibration.texts} {self.calibration.source} texts"
        return f"{self.method}{kept}: predicted error {_share(self.errors[self.method])}{against}, {source}"


def _share(error: float) -> str:
    """Format a squared error relative to the output; above 1, its size has no meaning."""
    return f"{error:.2e}" if error <= 1 else ">1"


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The powers of two that keep an fp16 variant's values within the range of float16; the scaling is exact.

    Attributes:
        stream: exponent of the residual stream, which is 2^-stream of the checkpoint's.
        products: exponents of the MLP products, likewise, layer by layer.
        stream_peak: largest magnitude of the unscaled stream on the calibration texts.
        product_peak: largest magnitude of the unscaled products on the calibration texts.
        calibration: the calibration texts.
    """

    stream: Annotated[int, msgspec.Meta(ge=0)]
    products: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    stream_peak: float
    product_peak: float
    calibration: Calibration

    def describe(self) -> str:
        """Return the choice and the reason for it, in one line."""
        folded = f"stream times 2^-{self.stream}, products times 2^-{max(self.products)} at most"
        peaks = f"magnitudes up to {self.stream_peak:.3g} and {self.product_peak:.3g}"
        chosen = folded if self.stream or any(self.products) else "nothing scaled"
        return f"{chosen}: {peaks} on {self.calibration.texts} {self.calibration.source} texts"
