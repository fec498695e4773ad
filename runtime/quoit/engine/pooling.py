"""Turn last-token states into vectors: truncate, normalise, convert.

The graph has already selected the end token's state after the final norm. Truncation comes first (the Matryoshka
property: a prefix of the vector is a smaller vector), then L2 normalisation, then conversion to the output type. The
types are those of `quantize_embeddings` of sentence-transformers.
"""

from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quoit.arguments import check_number, flag
from quoit.errors import ComputeError, InputError, brief, shown

Vectors = NDArray[Any]
Float32 = NDArray[np.float32]
Dtype = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
DtypeLike = Dtype | type[np.number[Any]] | np.dtype[Any]
"""Type of a vector's values, by its name or as a numpy type."""
Ranges = NDArray[np.floating[Any]]

EIGHT_BITS: tuple[Dtype, ...] = ("int8", "uint8")
"""Types whose values are steps over a range."""
ONE_BIT: tuple[Dtype, ...] = ("binary", "ubinary")
"""Types with one bit for each dimension."""
LEVELS = 255
"""Number of steps of an 8-bit output over its calibration range."""


class OutputOptions(TypedDict, total=False):
    """Keyword arguments of `encode` that decide the form of the vectors; see `Output`."""

    dim: int | None
    normalize: bool
    dtype: Dtype
    ranges: Ranges | None


@dataclass(frozen=True)
class Output:
    """Form of the vectors: dimension, normalisation, and type.

    Attributes:
        dim: keep the first `dim` values, then normalise; None keeps all.
        normalize: scale each vector to unit length.
        dtype: `float32`; `float16`; `int8` or `uint8`, with 255 steps over `ranges`; `binary` or `ubinary`, with one
            bit for each dimension (value > 0) and eight bits in a byte, as int8 (minus 128) or uint8.
        ranges: smallest and largest value of each dimension, [2, dim], for `int8` and `uint8`; take them from a sample
            of your own vectors with `calibration_ranges`. Values outside are clipped.
    """

    dim: SupportsIndex | None = None
    normalize: bool = True
    dtype: DtypeLike = "float32"
    ranges: Ranges | None = None

    def check(self, *, min_dim: int, hidden_size: int) -> "Output":
        """Return the same options as an int, a bool and a name, after a check that the model's vectors can have them.

        Raises:
            InputError: the dtype is unknown, `dim` is outside the model's range, or the ranges are absent or invalid.
            TypeError: `normalize` is neither True nor False.
        """
        dtype = dtype_name(self.dtype)
        dim = hidden_size if self.dim is None else check_number("dim", self.dim, min(min_dim, hidden_size), hidden_size)
        if dtype in EIGHT_BITS:
            check_ranges(self.ranges, dtype, dim)
        return Output(dim, flag("normalize", self.normalize), dtype, self.ranges)


def dtype_name(dtype: DtypeLike) -> Dtype:
    """Return the name of a type of values, which may be given as a numpy type.

    Raises:
        InputError: vectors cannot have this type.
    """
    name: object = dtype
    if isinstance(dtype, type) and issubclass(dtype, np.generic):
        name = dtype.__name__
    elif isinstance(dtype, np.dtype) and dtype.isnative:
        name = dtype.name
    known: Dtype
    for known in get_args(Dtype):
        if isinstance(name, str) and name == known:
            return known
    raise InputError(f"dtype {shown(dtype)} is unknown; choose one of {', '.join(get_args(Dtype))}")


def check_ranges(given: Ranges | None, dtype: Dtype, dim: int) -> None:
    """Refuse ranges that cannot be used for an 8-bit type.

    Raises:
        InputError: the ranges are absent, not numbers, not [2, dim], not finite, or do not rise from row 0 to row 1.
    """
    if given is None:
        raise InputError(
            f"dtype {dtype!r} needs ranges; pass ranges=calibration_ranges(sample) with float32 vectors "
            f"of dim {dim} from your own texts"
        )
    try:
        with np.errstate(all="ignore"):
            ranges = np.asarray(given, np.float32)
            steps = (ranges[1:] - ranges[:1]) / LEVELS
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        raise InputError(
            f"ranges are no numbers ({brief(error)}); make them with calibration_ranges(sample)"
        ) from error
    where = ""
    if ranges.shape == (2, dim):
        wrong = np.flatnonzero(~(np.isfinite(ranges).all(axis=0) & (steps[0] > 0) & (steps[0] < np.inf)))
        if not len(wrong):
            return
        low, high = ranges[:, wrong[0]]
        where = f", but dimension {wrong[0]} goes from {low} to {high}"
    raise InputError(
        f"ranges of shape {ranges.shape} must be finite, [2, {dim}], and rise from row 0 to row 1{where}; make "
        "them with calibration_ranges(sample)"
    )


def calibration_ranges(vectors: NDArray[np.floating[Any]]) -> Float32:
    """Return the smallest and largest value of each dimension of sample vectors [n, dim], as [2, dim]."""
    return np.stack([vectors.min(axis=0), vectors.max(axis=0)]).astype(np.float32)


def finish(states: Float32, output: Output) -> Vectors:
    """Turn last-token states [n, hidden] into vectors [n, dim], or [n, ceil(dim / 8)] for the binary types.

    Raises:
        ComputeError: a state is not finite.
    """
    if not np.isfinite(states).all():
        row = int(np.flatnonzero(~np.isfinite(states).all(axis=1))[0])
        raise ComputeError(
            f"the model gave NaN or infinity for row {row} of {len(states)}; use another precision, and "
            "`quoit doctor` to check the artifact"
        )
    vectors = states[:, : output.dim]
    if output.normalize:
        vectors = normalize(vectors)
    return convert(vectors, output)


def normalize(vectors: Float32) -> Float32:
    """Scale rows to unit Euclidean length; a row of zeros stays zero."""
    wide = vectors.astype(np.float64)  # squares of float32 values neither overflow nor underflow in float64
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: Float32 = (wide / np.maximum(norms, np.finfo(np.float64).tiny)).astype(np.float32)
    return scaled


def unit_rows(vectors: ArrayLike) -> Float32:
    """Return vectors as rows of unit length, [n, dim] float32; one vector gives one row."""
    return normalize(np.atleast_2d(np.asarray(vectors, np.float32)))


def convert(vectors: Float32, output: Output) -> Vectors:
    """Convert float32 vectors to the output's type."""
    match output.dtype:
        case "float32":
            same: Vectors = np.ascontiguousarray(vectors)
            return same
        case "float16":
            return to_half(vectors)
        case "ubinary":
            return pack_bits(vectors)
        case "binary":
            return (pack_bits(vectors).astype(np.int16) - 128).astype(np.int8)
    low, high = np.asarray(output.ranges, np.float32)
    with np.errstate(over="ignore"):  # a value that overflows is outside the range and is clipped
        levels: Float32 = np.clip((vectors - low) / ((high - low) / np.float32(LEVELS)), 0, LEVELS)
    return levels.astype(np.uint8) if output.dtype == "uint8" else (levels - 128).astype(np.int8)


def bits_of(vectors: Vectors, dtype: Dtype) -> NDArray[np.uint8]:
    """Return the bits of vectors of a type of one bit, [n, ceil(dim / 8)], as `pack_bits` packed them."""
    packed: NDArray[np.uint8] = (vectors.astype(np.int16) + 128).astype(np.uint8) if dtype == "binary" else vectors
    return packed


def unit_vectors(vectors: Vectors, dtype: Dtype, dim: int, ranges: Any) -> Float32:
    """Return vectors that `convert` made as rows of unit length, [n, dim] float32.

    A bit becomes plus or minus one, and a step of an 8-bit type the middle of what it stands for.
    """
    if dtype in ONE_BIT:
        signs = np.unpackbits(bits_of(vectors, dtype), axis=1, count=dim).astype(np.float32) * 2 - 1
        return signs / np.float32(np.sqrt(dim))
    if dtype in EIGHT_BITS:
        low, high = np.asarray(ranges, np.float32)
        levels = vectors.astype(np.float32) + (128 if dtype == "int8" else 0)
        return unit_rows(low + (levels + 0.5) * ((high - low) / LEVELS))
    return unit_rows(vectors)


def to_half(vectors: Float32) -> Vectors:
    """Convert vectors to float16.

    Raises:
        ComputeError: a value is outside the range of float16, which can happen without normalisation.
    """
    with np.errstate(over="ignore"):
        half: Vectors = vectors.astype(np.float16)
    if not np.isfinite(half).all():
        raise ComputeError(
            f"a vector has the value {np.abs(vectors).max():g}, beyond float16; normalise it, or use dtype='float32'"
        )
    return half


def pack_bits(vectors: Float32) -> NDArray[np.uint8]:
    """Pack one bit for each dimension, set if the value is above zero, eight to a byte: [n, ceil(dim / 8)]."""
    bits: NDArray[np.uint8] = np.packbits(vectors > 0, axis=1)
    return bits
