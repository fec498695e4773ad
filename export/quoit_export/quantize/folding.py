"""Rewrites of a checkpoint's tensors that leave its function as it is, and make it easier to store in int8.

| fold      | what happens                                            | where it is absorbed                           |
|-----------|---------------------------------------------------------|------------------------------------------------|
| smoothing | every channel that a linear layer reads is divided by s | norm weight, v or up rows; the layer's columns |
| rotation  | the residual stream x becomes x R                       | token table, all linear layers, the output     |
| heads     | every head's output c becomes c H                       | v rows, o columns                              |

All are exact in exact arithmetic: a norm's weight stands beside the columns that read it, the root mean square of x R
is that of x, attention averages v, and SwiGLU is linear in up. Smoothing is SmoothQuant's (Xiao et al. 2023), rotation
QuaRot's (Ashkboos et al. 2024). Tensors are rewritten one at a time as they are read.

An *input* is what one or more linear layers of a decoder layer read. It is called by the first of them, as in
`layers.3.mlp.gate_proj`. This module does not know which fold is good for which model, nor how int8 rounds.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit.artifact import Architecture
from quoit_export.precisions.chunks import row_chunks
from quoit_export.precisions.encoding import ReadTensor

Values = NDArray[np.float32]
Channels = NDArray[np.float64]

READERS: dict[str, tuple[str, ...]] = {
    "self_attn.q_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "mlp.gate_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
}
"""The inputs of a decoder layer, and the linear layers that read each."""

NORMS = {"self_attn.q_proj": "input_layernorm", "mlp.gate_proj": "post_attention_layernorm"}
"""The norms behind which inputs lie; the others lie behind linear layers, as PRODUCERS says."""
PRODUCERS = {"self_attn.o_proj": "self_attn.v_proj", "mlp.down_proj": "mlp.up_proj"}

FED_BY = {linear: read for read, linears in READERS.items() for linear in linears}
NORMED = {norm: read for read, norm in NORMS.items()}
PRODUCED = {producer: read for read, producer in PRODUCERS.items()}
STREAM_WRITERS = ("self_attn.o_proj", "mlp.down_proj")


WIDEST = 128
"""Order of the largest Hadamard factor. A last factor of 2 would be multiplied in pairs, which is slow."""


@dataclass(frozen=True)
class Rotation:
    """A random orthogonal matrix R = diag(signs) (A x B x ...), a Kronecker product that need not be multiplied out.

    With Hadamard matrices for factors, every output channel is the mean of all inputs with random signs: what
    stands out in one channel is spread over all.
    """

    signs: Values
    factors: tuple[Values, ...]

    @property
    def size(self) -> int:
        """The number of channels."""
        return len(self.signs)

    def apply(self, rows: NDArray[Any]) -> Values:
        """Rows [..., size] times R, in float32."""
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
        """R itself, [size, size]."""
        return self.apply(np.eye(self.size, dtype=np.float32))


def make_rotation(size: int, seed: int) -> Rotation:
    """A rotation of `size` channels: Hadamard matrices where their orders reach, a random orthogonal one for the rest.

    Args:
        size: a power of two times an order of Paley's first kind, such as 1024, 2560 = 128 * 20 or 4096, is Hadamard
            throughout.
        seed: of the signs, and of the part that is not Hadamard.
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
    """Whether order - 1 is a prime of the form 4k + 3."""
    prime = order - 1
    return prime % 4 == 3 and all(prime % divisor for divisor in range(3, int(prime**0.5) + 1, 2))


def _paley(order: int) -> Values:
    """Paley's first construction over a prime field: I + S, S skew with the quadratic residues' signs; orthogonal."""
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
    """What each channel is divided by: max|X|^alpha / max|W|^(1 - alpha), times a constant.

    If a channel is c times larger and its column c times smaller, its scale is c times larger: what is then left to
    round is the same, whatever alpha. The constant makes the largest channel 1 behind the division. A
    channel that is never anything, or that nothing reads, is left alone.

    Args:
        activations: each channel's largest magnitude.
        weights: the largest magnitude of the columns that read it.
        alpha: 1 gives all channels the same range, 0 all columns.
    """
    alive = (activations > 0) & (weights > 0)
    scales = np.ones_like(activations)
    scales[alive] = activations[alive] ** alpha / weights[alive] ** (1 - alpha)
    scales[alive] *= np.max(activations[alive] / scales[alive], initial=0)
    return scales


def share_among_heads(channels: Channels, numbers: Architecture) -> Channels:
    """Values of o_proj's channels, those of query heads that read the same value head made their largest."""
    groups = channels.reshape(numbers.num_key_value_heads, -1, numbers.head_dim)
    return np.broadcast_to(groups.max(axis=1, keepdims=True), groups.shape).reshape(channels.shape)


@dataclass(frozen=True)
class Folding:
    """Folds to be made together, and where they go.

    Attributes:
        numbers: the decoder's.
        scales: by input, such as `layers.3.mlp.gate_proj`, what each of its channels is divided by. Behind a norm they
            are channels of the rotated stream, where it is rotated.
        stream: the residual stream's rotation.
        heads: each head's, made behind the division.
    """

    numbers: Architecture
    scales: dict[str, Channels] = field(default_factory=dict)
    stream: Rotation | None = None
    heads: Rotation | None = None

    def reader(self, read: ReadTensor) -> ReadTensor:
        """Tensors by name, folded."""

        def folded(name: str) -> NDArray[Any]:
            layer, part = split_name(name.removesuffix(".weight"))
            if part in FED_BY:
                return self._write(layer, part, self.columns(read, f"{layer}.{part}"))
            if self.stream is not None and name == "embed_tokens.weight":
                return self.stream.apply(read(name))
            if part in NORMED or part == "norm":
                return self._norm(read(name), self.scales.get(f"{layer}.{NORMED.get(part)}"))
            return read(name)

        return folded

    def columns(self, read: ReadTensor, linear: str) -> Values:
        """A linear layer's weight [out, in] with what it reads folded in, and not yet what it writes."""
        layer, part = split_name(linear)
        source = FED_BY[part]
        weight: Values = read(f"{linear}.weight").astype(np.float32)
        if self.stream is not None and source in NORMS:
            weight = self.stream.apply(weight * read(f"{layer}.{NORMS[source]}.weight").astype(np.float32))
        scales = self.scales.get(f"{layer}.{source}")
        if scales is not None:
            weight = weight * scales.astype(np.float32)
        if self.heads is not None and part == "self_attn.o_proj":
            weight = self.heads.apply(weight.reshape(-1, self.heads.size)).reshape(weight.shape)
        return weight

    def activations(self, read: ReadTensor, name: str, rows: Values) -> Values:
        """An input's rows [n, in] of the unfolded graph, as they are in the folded one."""
        layer, part = split_name(name)
        if self.stream is not None and part in NORMS:
            norm = read(f"{layer}.{NORMS[part]}.weight").astype(np.float32)
            rows = self.stream.apply(np.divide(rows, norm, out=np.zeros_like(rows), where=norm != 0))
        scales = self.scales.get(name)
        if scales is not None:
            rows = divide(rows, scales)
        if self.heads is not None and part == "self_attn.o_proj":
            rows = self.heads.apply(rows.reshape(-1, self.heads.size)).reshape(rows.shape)
        return rows

    def output(self, read: ReadTensor) -> Values:
        """What turns a state of the rotated graph [hidden] back, [hidden, hidden].

        The final norm's weight stands behind the rotation that is undone, so the rotated graph's own is one.
        """
        if self.stream is None:
            return np.eye(self.numbers.hidden_size, dtype=np.float32)
        return np.ascontiguousarray(self.stream.matrix.T * read("norm.weight").astype(np.float32))

    def score(self, read: ReadTensor, vector: Values) -> Values:
        """The vector [hidden] whose product with a state of the folded graph is what `vector`'s was."""
        if self.stream is None:
            return vector
        return self.stream.apply(vector * read("norm.weight").astype(np.float32))

    def _write(self, layer: str, part: str, weight: Values) -> Values:
        """A weight whose rows are what the folded graph expects."""
        scales = self.scales.get(f"{layer}.{PRODUCED.get(part)}")
        if scales is not None:
            if part == "self_attn.v_proj":
                scales = scales.reshape(self.numbers.num_key_value_heads, -1, self.numbers.head_dim)[:, 0].ravel()
            weight = divide(weight, scales[:, None])
        if self.heads is not None and part == "self_attn.v_proj":
            weight = self.heads.apply(weight.T.reshape(-1, self.heads.size)).reshape(weight.T.shape).T
        if self.stream is not None and part in STREAM_WRITERS:
            weight = self.stream.apply(weight.T).T
        return weight

    def _norm(self, weight: NDArray[Any], scales: Channels | None) -> Values:
        folded = np.ones(weight.shape, np.float32) if self.stream is not None else weight.astype(np.float32)
        return folded if scales is None else divide(folded, scales)


def divide(values: Values, scales: Channels) -> Values:
    """A quotient in float32."""
    found: Values = np.divide(values, scales.astype(np.float32), dtype=np.float32)
    return found


def split_name(name: str) -> tuple[str, str]:
    """`layers.3.mlp.up_proj` -> (`layers.3`, `mlp.up_proj`); a name of no layer has an empty one."""
    if not name.startswith("layers."):
        return "", name
    prefix, number, part = name.split(".", 2)
    return f"{prefix}.{number}", part


def input_names(numbers: Architecture) -> list[str]:
    """Every input of the decoder, layer by layer."""
    return [f"layers.{layer}.{part}" for layer in range(numbers.num_hidden_layers) for part in READERS]
