"""Rewrite a checkpoint's tensors so that its function stays the same and the tensors lose less in int8 and int4.

| fold      | what happens                                            | where it is absorbed                           |
|-----------|---------------------------------------------------------|------------------------------------------------|
| smoothing | every channel that a linear layer reads is divided by s | norm weight, v or up rows; the layer's columns |
| rotation  | the residual stream x becomes x R                       | token table, all linear layers, the output     |
| heads     | every head's output c becomes c H                       | v rows, o columns                              |

All folds are exact in exact arithmetic. A norm's weight can move into the columns that read it. The root mean square of
x R is that of x. Attention averages v, and SwiGLU is linear in up. Smoothing is that of SmoothQuant (Xiao et al. 2023),
and rotation is that of QuaRot (Ashkboos et al. 2024). Tensors are rewritten one at a time as they are read.

The architecture says which linear layers read an input, which norm or layer gives it, and which layers write to the
stream (`LinearInput`). This module does not know which fold is good for which model, nor how int8 rounds.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit_export.graph.architecture import Architecture
from quoit_export.precisions.chunks import row_chunks
from quoit_export.precisions.encoding import ReadTensor

Values = NDArray[np.float32]
Channels = NDArray[np.float64]

WIDEST = 128
"""Order of the largest Hadamard factor. A last factor of 2 would be multiplied in pairs, which is slow."""


@dataclass(frozen=True)
class Rotation:
    """A random orthogonal matrix R = diag(signs) (A x B x ...), a Kronecker product that need not be multiplied out.

    If the factors are Hadamard matrices, every output channel is a scaled sum of all inputs with random signs. A value
    that stands out in one channel is spread over all channels.

    Attributes:
        signs: the random signs of the channels, [size].
        factors: the orthogonal factors of the Kronecker product.
    """

    signs: Values
    factors: tuple[Values, ...]

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.signs)

    def apply(self, rows: NDArray[Any]) -> Values:
        """Return rows [..., size] times R, in float32."""
        found = np.empty(rows.shape, np.float32)
        flat, target = rows.reshape(-1, self.size), found.reshape(-1, self.size)
        for some in row_chunks(*flat.shape):
            target[some] = self._multiply(flat[some].astype(np.float32) * self.signs)
        return found

    def _multiply(self, rows: Values) -> Values:
        left = 1
        for factor in self.factors:
            width = len(factor)
            right = self.size // (left * width)
            if right == 1:
                rows = rows.reshape(-1, width) @ factor
            else:
                # [rows * left, width, right]: the factor acts on the middle axis.
                rows = np.matmul(factor.T, rows.reshape(-1, width, right))
            left *= width
        return rows.reshape(-1, self.size)

    @cached_property
    def matrix(self) -> Values:
        """The matrix R, [size, size]."""
        return self.apply(np.eye(self.size, dtype=np.float32))


def make_rotation(size: int, seed: int) -> Rotation:
    """Return a rotation of `size` channels.

    Its factors are Hadamard matrices of the orders that exist, and a random orthogonal matrix for the rest.

    Args:
        size: the number of channels. All factors are Hadamard matrices if it is a power of two, alone or times an order
            of Paley's first kind. Examples are 1024, 2560 = 128 * 20 and 4096.
        seed: the seed of the signs, and of the factor that is not Hadamard.
    """
    generator = np.random.default_rng(seed)
    signs = generator.choice(np.array([-1, 1], np.float32), size)
    odd, power = size, 1
    while odd % 2 == 0:
        odd, power = odd // 2, power * 2
    factors: list[Values] = []
    if odd > 1:
        order = next((odd * times for times in _doublings(power) if _is_paley(odd * times)), odd)
        factors.append(_paley(order) if order != odd else _random_orthogonal(odd, generator))
        power //= order // odd
    while power > 1:
        width = power if power <= WIDEST else WIDEST // 2
        factors.append(_sylvester(width))
        power //= width
    return Rotation(signs, tuple(factors))


def _doublings(most: int) -> list[int]:
    return [1 << exponent for exponent in range(2, most.bit_length())]


def _is_paley(order: int) -> bool:
    """Return whether order - 1 is a prime of the form 4k + 3."""
    prime = order - 1
    return prime % 4 == 3 and all(prime % divisor for divisor in range(3, int(prime**0.5) + 1, 2))


def _paley(order: int) -> Values:
    """Return the orthogonal matrix of Paley's first construction over a prime field.

    It is I + S, scaled; S is skew and has the quadratic residues' signs.
    """
    prime = order - 1
    residue = np.full(prime, -1)
    residue[np.arange(1, prime) ** 2 % prime] = 1
    residue[0] = 0
    index = np.arange(prime)
    skew = np.zeros((order, order))
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = residue[(index[:, None] - index[None, :]) % prime]
    found: Values = ((np.eye(order) + skew) / np.sqrt(order)).astype(np.float32)
    return found


def _sylvester(order: int) -> Values:
    signs = np.ones((1, 1))
    while len(signs) < order:
        signs = np.block([[signs, signs], [signs, -signs]])
    found: Values = (signs / np.sqrt(order)).astype(np.float32)
    return found


def _random_orthogonal(size: int, generator: np.random.Generator) -> Values:
    q, r = np.linalg.qr(generator.standard_normal((size, size)))
    found: Values = (q * np.sign(np.diag(r))).astype(np.float32)
    return found


def smoothing_scales(activations: Channels, weights: Channels, alpha: float) -> Channels:
    """Return the divisor of each channel: max|X|^alpha / max|W|^(1 - alpha), times a constant.

    If a channel is c times larger and its column is c times smaller, its divisor is c times larger. So the values to
    round are then the same, whatever alpha is. The constant makes the largest channel 1 after the division. A channel
    that is always zero, or that no layer reads, is left alone.

    Args:
        activations: the largest magnitude of each channel.
        weights: the largest magnitude of the columns that read each channel.
        alpha: the exponent; 1 gives all channels the same range, 0 gives all columns the same range.
    """
    alive = (activations > 0) & (weights > 0)
    scales = np.ones_like(activations)
    scales[alive] = activations[alive] ** alpha / weights[alive] ** (1 - alpha)
    scales[alive] *= np.max(activations[alive] / scales[alive], initial=0)
    return scales


def share_among_heads(channels: Channels, architecture: Architecture) -> Channels:
    """Replace each channel of attention's output by the maximum over the heads that read the same value head."""
    attention = architecture.attention
    groups = channels.reshape(attention.num_key_value_heads, -1, attention.head_dim)
    return np.broadcast_to(groups.max(axis=1, keepdims=True), groups.shape).reshape(channels.shape)


@dataclass(frozen=True)
class Folding:
    """Folds that are applied together to one model.

    Attributes:
        architecture: the architecture of the model.
        scales: the divisor of each channel, by the name of the input. Behind a norm, if the stream is rotated, the
            channels are those of the rotated stream.
        stream: the residual stream's rotation; None without one.
        heads: each head's rotation, applied after the division; None without one.
    """

    architecture: Architecture
    scales: dict[str, Channels] = field(default_factory=dict)
    stream: Rotation | None = None
    heads: Rotation | None = None

    def reader(self, read: ReadTensor) -> ReadTensor:
        """Return a reader of folded tensors by name."""
        architecture = self.architecture

        def folded(name: str) -> NDArray[Any]:
            part = name.removesuffix(".weight")
            if part in architecture.read_by:
                return self._write(part, self.columns(read, part))
            if self.stream is not None and name == architecture.token_table:
                return self.stream.apply(read(name))
            given = architecture.given_by.get(part)
            if given is not None or part == architecture.final_norm:
                return self._norm(read(name), None if given is None else self.scales.get(given.name))
            return read(name)

        return folded

    def columns(self, read: ReadTensor, linear: str) -> Values:
        """Return a linear layer's weight [out, in] with the folds of its input applied, but not those of its output."""
        source = self.architecture.read_by[linear]
        weight: Values = read(f"{linear}.weight").astype(np.float32)
        if self.stream is not None and source.norm is not None:
            weight = self.stream.apply(weight * read(f"{source.norm}.weight").astype(np.float32))
        scales = self.scales.get(source.name)
        if scales is not None:
            weight = weight * scales.astype(np.float32)
        if self.heads is not None and source.heads:
            weight = self.heads.apply(weight.reshape(-1, self.heads.size)).reshape(weight.shape)
        return weight

    def activations(self, read: ReadTensor, name: str, rows: Values) -> Values:
        """Convert an input's rows [n, in] of the unfolded graph to those of the folded graph."""
        source = self.architecture.input[name]
        if self.stream is not None and source.norm is not None:
            norm = read(f"{source.norm}.weight").astype(np.float32)
            rows = self.stream.apply(np.divide(rows, norm, out=np.zeros_like(rows), where=norm != 0))
        scales = self.scales.get(name)
        if scales is not None:
            rows = divide(rows, scales)
        if self.heads is not None and source.heads:
            rows = self.heads.apply(rows.reshape(-1, self.heads.size)).reshape(rows.shape)
        return rows

    def output(self, read: ReadTensor) -> Values:
        """Return the inverse of the residual rotation, [hidden, hidden], to apply to a state of the rotated graph.

        The final norm's weight is part of this matrix, and the rotated graph's own final norm has weight one.
        """
        if self.stream is None:
            return np.eye(self.architecture.dimension, dtype=np.float32)
        return np.ascontiguousarray(self.stream.matrix.T * self._final_norm(read))

    def score(self, read: ReadTensor, vector: Values) -> Values:
        """Return the vector [hidden] that replaces `vector` for states of the folded graph; scores do not change."""
        return vector if self.stream is None else self.stream.apply(vector * self._final_norm(read))

    def _final_norm(self, read: ReadTensor) -> Values:
        weight: Values = read(f"{self.architecture.final_norm}.weight").astype(np.float32)
        return weight

    def _write(self, linear: str, weight: Values) -> Values:
        """Return a weight with the folds of its output applied to its rows."""
        given, attention = self.architecture.given_by.get(linear), self.architecture.attention
        scales = None if given is None else self.scales.get(given.name)
        gives_heads = given is not None and given.heads
        if scales is not None:
            if gives_heads:
                scales = scales.reshape(attention.num_key_value_heads, -1, attention.head_dim)[:, 0].ravel()
            weight = divide(weight, scales[:, None])
        if self.heads is not None and gives_heads:
            weight = self.heads.apply(weight.T.reshape(-1, self.heads.size)).reshape(weight.T.shape).T
        if self.stream is not None and linear in self.architecture.stream_writers:
            weight = self.stream.apply(weight.T).T
        return weight

    def _norm(self, weight: NDArray[Any], scales: Channels | None) -> Values:
        folded = np.ones(weight.shape, np.float32) if self.stream is not None else weight.astype(np.float32)
        return folded if scales is None else divide(folded, scales)


def divide(values: Values, scales: Channels) -> Values:
    """Return values divided by scales, in float32."""
    found: Values = np.divide(values, scales.astype(np.float32), dtype=np.float32)
    return found
