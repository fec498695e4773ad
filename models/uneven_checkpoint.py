"""Writes a random embedding checkpoint whose activations are as uneven as those of a trained decoder.

    python models/uneven_checkpoint.py OUT [--shape tiny|0.6b|4b|8b] [--seed 0]

Random weights bear int8 everywhere, since all their activations are alike. This checkpoint differs from
`random_checkpoint.py`'s in three ways, and each has its likeness in trained decoders:

- Massive tokens. The first token of every text and some frequent tokens write thousands of times an ordinary value into
  one channel of the residual stream. In some layers they are massive at the input of down_proj too.
- Sharp gates. SwiGLU's gates are steep and mostly closed, so that a few of a token's products stand out.
- Uneven channels. Norms, up_proj and v_proj have channels of different size, and the columns behind them make up for
  it. That is the same function; factors are powers of two, so it is the same to the last bit of the weights.

The first two are another function than `random_checkpoint.py`'s, and as meaningless. Tensors are changed one by one in
place, so that a shape needs no more memory than there. Chosen to resemble SmolLM2-135M, see
bench/log/2026-11-29-uneven-activations.md. A hidden size of 200 or more tells first tokens apart reliably.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from quoit_export.families.qwen3.config import Config
from quoit_export.families.qwen3.tensors import TOKEN_TABLE
from random_checkpoint import LAYERS_SPREAD, SHAPES, TOKEN_SPREAD, Change, Tensors, write_checkpoint, write_once

CONSTANT, MARK, MASSIVE = 0, 3, 5
"""Channels of the residual stream: the same for all tokens; whether a token shall be massive; the massive value."""
OWN_CHANNELS = [CONSTANT, MARK, MASSIVE]
FIRST_COPY = 8
"""First of the channels that layer 0's attention copies to."""
MARKED = 8.0
"""Value of CONSTANT, and of MARK where a token is massive, in units of TOKEN_SPREAD."""
COPIED = 2.0
"""Size of what layer 0's attention copies, in units of TOKEN_SPREAD."""
THRESHOLD = 0.6
"""Share of MARKED from which a token is massive."""
HEIGHT = 3000.0
"""The massive value of the residual stream, in units of TOKEN_SPREAD."""
PRODUCT = 300.0
"""The massive value at the input of down_proj; ordinary tokens have at most about 15 there."""
WRITER = 1
"""Layer whose MLP writes the massive values."""
FREQUENT = (".", "Ċ")
"""Tokens that are massive wherever they stand, as byte-level BPE spells them."""
HEAD_GAIN = 1.5
"""Norm weight of the channel that layer 0's first head attends by."""

STEEPNESS = 4.0
"""Factor of the gates: SwiGLU then is nearly linear above zero and nearly nothing below."""
CLOSED, OUTER_CLOSED = 0.45, 0.65
"""What is taken off a gate before it is made steep, in standard deviations: in most layers, and in the outer ones."""
LATE = 0.75
"""Share of the layers behind which they are outer ones, as the first is."""
OCTAVES = {"input_layernorm": 1.75, "post_attention_layernorm": 1.25, "products": 0.15, "values": 0.5}
"""Standard deviation of the channels' factors, as powers of two."""

FINAL_NORM = "norm.weight"
NORMS = ("input_layernorm", "post_attention_layernorm")
READERS = dict.fromkeys(("q_proj", "k_proj", "v_proj"), NORMS[0]) | dict.fromkeys(("gate_proj", "up_proj"), NORMS[1])
"""The linear layers behind a norm, and the norm."""

Values = NDArray[Any]


def make_uneven(tensors: Tensors, config: Config, frequent: Sequence[int], seed: int = 0) -> Tensors:
    """Yield the tensors of an embedding checkpoint, changed in place.

    Args:
        tensors: what `random_checkpoint.make_tensors` yields.
        config: the shape; it has at least two layers.
        frequent: ids of the tokens that are massive wherever they stand.
        seed: of the channels' factors.
    """
    for name, values in tensors:
        excite(name, values, config, frequent)
        rescale(name, values, config, seed)
        yield name, values


def excite(name: str, values: Values, config: Config, frequent: Sequence[int]) -> None:
    """Give one tensor its part in sharp gates and massive tokens."""
    if name == TOKEN_TABLE:
        values[:, OWN_CHANNELS] = 0
        values[:, CONSTANT] = MARKED * TOKEN_SPREAD
        values[frequent, MARK] = MARKED * TOKEN_SPREAD
    elif name == FINAL_NORM:
        values[OWN_CHANNELS] = 0
    else:
        layer, part = split(name)
        reserve_channels(part, values, layer)
        close_gates(part, values, config, layer)
        if layer == 0:
            detect_first(part, values, config)
        elif layer == WRITER:
            write_massive(part, values, config)
        elif layer in massive_layers(config):
            read_massive(part, values, config)


def reserve_channels(part: str, values: Values, layer: int) -> None:
    """Keep a random tensor from the channels of their own: nothing else writes there, and little reads them."""
    if part in NORMS:
        values[:] = 1 if layer == 0 else values
        values[OWN_CHANNELS] = 1
    elif part in ("v_proj", "gate_proj", "up_proj"):
        values[:, [CONSTANT, MARK]] = 0
    elif part in ("o_proj", "down_proj"):
        values[OWN_CHANNELS] = 0


def close_gates(part: str, values: Values, config: Config, layer: int) -> None:
    """Make gates steep and mostly closed; down_proj makes up for the smaller or larger products."""
    if part == "gate_proj":
        values *= ml_dtypes.bfloat16(STEEPNESS)
        values[:, CONSTANT] = -STEEPNESS * closed(config, layer) / constant(config, layer)
    elif part == "down_proj":
        values *= ml_dtypes.bfloat16(product_size(1.0, 0.0) / product_size(STEEPNESS, closed(config, layer)))


def detect_first(part: str, values: Values, config: Config) -> None:
    """Give a tensor of layer 0 its part in marking every text's first token.

    Attention's first head looks at all tokens but the reader itself, by constant queries and keys whose one pair of
    channels RoPE turns by one radian a token. Only the first token has nothing else to look at. The head copies
    projections of what it sees to channels of their own; there the MLP multiplies them by the same projections of the
    token itself: silu(g) * u + silu(-g) * (-u) = g * u. Their sum is large where a token sees itself, and about nought
    elsewhere. It goes to the channel MARK.
    """
    width = copies(config)
    own = slice(0, config.head_dim)
    copied = range(FIRST_COPY, FIRST_COPY + width)
    pairs = range(2 * width)
    signs = np.repeat([1.0, -1.0], width)
    if part in ("q_norm", "k_norm"):
        values[0] = HEAD_GAIN
    elif part in ("q_proj", "k_proj"):
        values[own] = 0
        values[0, CONSTANT] = 1 if part == "q_proj" else -1
    elif part == "v_proj":
        values[:width] = projections(config)
    elif part == "o_proj":
        values[:, own] = 0
        values[copied, range(width)] = COPIED * TOKEN_SPREAD
    elif part == "gate_proj":
        values[pairs] = signs[:, None] * np.tile(projections(config), (2, 1))
    elif part == "up_proj":
        values[pairs] = 0
        values[pairs, [*copied, *copied]] = signs
    elif part == "down_proj":
        sizes = stream_size(config, 0.0, copied=False), stream_size(config, 0.0)
        expected = width * COPIED * TOKEN_SPREAD**3 / (sizes[0] * sizes[1] ** 2)
        values[:, pairs] = 0
        values[MARK, pairs] = MARKED * TOKEN_SPREAD / expected


def write_massive(part: str, values: Values, config: Config) -> None:
    """Let the first product of an MLP answer to MARK, and write HEIGHT into the channel MASSIVE."""
    one = constant(config, WRITER)
    if part == "gate_proj":
        values[0] = 0
        values[0, MARK] = STEEPNESS
        values[0, CONSTANT] = -STEEPNESS * THRESHOLD
    elif part == "up_proj":
        values[0] = 0
        values[0, CONSTANT] = PRODUCT / (STEEPNESS * (1 - THRESHOLD) * one**2)
    elif part == "down_proj":
        values[:, 0] = 0
        values[MASSIVE, 0] = HEIGHT * TOKEN_SPREAD / PRODUCT


def read_massive(part: str, values: Values, config: Config) -> None:
    """Let the first product of an MLP answer to MASSIVE; a massive token's row has little else behind the norm."""
    if part in ("gate_proj", "up_proj"):
        values[0] = 0
        values[0, MASSIVE] = math.sqrt(PRODUCT / config.hidden_size)


def rescale(name: str, values: Values, config: Config, seed: int) -> None:
    """Multiply channels of one tensor by powers of two, or divide by them: the same function.

    A norm's weight grows and the columns behind it shrink; so do up_proj's rows with down_proj's columns, and v_proj's
    rows with those of o_proj.
    """
    if name in (TOKEN_TABLE, FINAL_NORM):
        return
    layer, part = split(name)

    def factor(kind: str, count: int) -> Values:
        generator = np.random.default_rng([seed, layer, list(OCTAVES).index(kind)])
        powers: Values = np.exp2(np.rint(OCTAVES[kind] * generator.standard_normal(count)))
        return powers.astype(ml_dtypes.bfloat16)

    if part in NORMS:
        values *= factor(part, config.hidden_size)
    elif part in READERS:
        values /= factor(READERS[part], config.hidden_size)
    if part == "up_proj":
        values *= factor("products", config.intermediate_size)[:, None]
    elif part == "down_proj":
        values /= factor("products", config.intermediate_size)
    elif part == "v_proj":
        values *= factor("values", len(values))[:, None]
    elif part == "o_proj":
        shared = config.num_attention_heads // config.num_key_value_heads
        heads = factor("values", config.num_key_value_heads * config.head_dim).reshape(-1, 1, config.head_dim)
        values /= np.repeat(heads, shared, axis=1).ravel()


def split(name: str) -> tuple[int, str]:
    """The layer and the part of a tensor's name."""
    _, layer, *_, part, _ = name.split(".")
    return int(layer), part


def massive_layers(config: Config) -> set[int]:
    """Layers in which massive tokens are massive at the input of down_proj: early, at three tenths, and late ones."""
    layers = config.num_hidden_layers
    middle = 3 * layers // 10
    return {layer for layer in (WRITER, 2, middle, middle + 1, middle + 2, layers - 3, layers - 2) if layer >= WRITER}


def copies(config: Config) -> int:
    """How many projections layer 0's attention copies."""
    return min(config.head_dim, (config.hidden_size - FIRST_COPY) // 2, config.intermediate_size // 4)


def projections(config: Config) -> Values:
    """Orthonormal directions [copies, hidden] that have no part in the channels of their own."""
    width = copies(config)
    free = range(FIRST_COPY + width, config.hidden_size)
    found = np.zeros((width, config.hidden_size))
    random = np.random.default_rng(0).standard_normal((len(free), width))
    found[:, free] = np.linalg.qr(random)[0].T
    return found


def stream_size(config: Config, share: float, *, copied: bool = True) -> float:
    """The expected root mean square of an ordinary token's stream, behind a share of all layers' additions."""
    squares = TOKEN_SPREAD**2 * (1 + MARKED**2 / config.hidden_size)
    if copied:
        squares += (COPIED * TOKEN_SPREAD) ** 2 * copies(config) / config.hidden_size
    return math.sqrt(squares + share * LAYERS_SPREAD["embedding"] ** 2)


def constant(config: Config, layer: int) -> float:
    """The expected value of CONSTANT behind the norm before a layer's MLP."""
    return MARKED * TOKEN_SPREAD / stream_size(config, (layer + 0.5) / config.num_hidden_layers)


def closed(config: Config, layer: int) -> float:
    """What is taken off a layer's gates, in standard deviations."""
    return OUTER_CLOSED if layer == 0 or layer >= LATE * config.num_hidden_layers else CLOSED


def product_size(steepness: float, closed: float) -> float:
    """The root mean square of silu(steepness * (z - closed)) * u, with z and u normally distributed."""
    z = np.linspace(-8, 8, 4001)
    gate = steepness * (z - closed)
    density = np.exp(-(z**2) / 2)
    return float(np.sqrt(((gate / (1 + np.exp(-gate))) ** 2 * density).sum() / density.sum()))


def frequent_tokens(tokenizer: Tokenizer) -> list[int]:
    """The ids of FREQUENT."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[token] for token in FREQUENT]


def change(config: Config, seed: int = 0) -> Change:
    """What `random_checkpoint.write_checkpoint` makes of the tensors."""
    return lambda tensors, tokenizer: make_uneven(tensors, config, frequent_tokens(tokenizer), seed)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a random checkpoint with uneven activations.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config, seed = SHAPES[options.shape], options.seed
    write_once(
        options.out,
        parser,
        lambda draft: write_checkpoint(draft, config, seed=seed, change=change(config, seed)),
    )
    print(
        f"{options.out}: a checkpoint with RANDOM weights and uneven activations; similarities and scores will "
        "mean NOTHING"
    )


if __name__ == "__main__":
    main()
