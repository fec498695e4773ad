"""Checkpoints that are hard for int8 or fp16: the small model rescaled, or changed in ways that larger ones come in.

A norm's weight times c with the columns behind it divided by c, up_proj's rows times c with down_proj's columns
divided by c, or v_proj's rows with o_proj's columns, are the same function and a harder one to quantize. The others
are other functions: `massive`, where one token's MLP puts several thousand into one channel of the residual stream;
`outlier`, where the token table has such a channel; `cancelling`, where large weights subtract two equal channels.
Two are beyond float16, which ends at 65,504: `towering`, where the residual stream is, and `bursting`, `massive` whose
one token drives SwiGLU's product there. Weights are stored in float32, so that the rescaling itself rounds nothing
worth mentioning.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  registers bfloat16 with numpy, which safetensors needs
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

LARGEST = 1000.0
MASSIVE_WORD = ","
MASSIVE_LAYERS = 2
OUTLIER = 5
CANCELLING = 1e4
STREAM_WRITERS = ("self_attn.o_proj", "mlp.down_proj")
STREAM_FACTOR, VALUE_FACTOR = 3072.0, 8.0
"""The token table stays within float16, and sums with it do not. Of o_proj's factor v_proj bears a part."""
PRODUCT_FACTOR = 2.0**6

Tensors = dict[str, NDArray[Any]]
Factors = Callable[[int], NDArray[np.float64]]


def spread(generator: np.random.Generator) -> Factors:
    """Factors for channels, log-uniform from 1 to LARGEST."""
    return lambda count: LARGEST ** generator.random(count)


def single(generator: np.random.Generator) -> Factors:
    """LARGEST for one channel, and 1 for the others."""
    return lambda count: np.where(np.arange(count) == generator.integers(count), LARGEST, 1.0)


def rescale_norms(tensors: Tensors, config: dict[str, Any], factors: Factors) -> None:
    """Every norm before linear layers times c, and the columns behind it divided by c."""
    for layer in layers_of(config):
        for norm, linears in (
            ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
        ):
            factor = factors(config["hidden_size"])
            tensors[f"{layer}.{norm}.weight"] *= factor
            for linear in linears:
                tensors[f"{layer}.{linear}.weight"] /= factor


def rescale_products(tensors: Tensors, config: dict[str, Any], factors: Factors) -> None:
    """up_proj's rows times c, down_proj's columns divided by c."""
    for layer in layers_of(config):
        factor = factors(config["intermediate_size"])
        tensors[f"{layer}.mlp.up_proj.weight"] *= factor[:, None]
        tensors[f"{layer}.mlp.down_proj.weight"] /= factor


def rescale_values(tensors: Tensors, config: dict[str, Any], factors: Factors) -> None:
    """v_proj's rows times c, and o_proj's columns divided by c for every query head that reads them."""
    shared = config["num_attention_heads"] // config["num_key_value_heads"]
    for layer in layers_of(config):
        factor = factors(config["num_key_value_heads"] * config["head_dim"])
        tensors[f"{layer}.self_attn.v_proj.weight"] *= factor[:, None]
        heads = factor.reshape(-1, 1, config["head_dim"])
        tensors[f"{layer}.self_attn.o_proj.weight"] /= np.repeat(heads, shared, axis=1).ravel()


def rescale_all(tensors: Tensors, config: dict[str, Any], factors: Factors) -> None:
    """All three."""
    for rescale in (rescale_norms, rescale_products, rescale_values):
        rescale(tensors, config, factors)


def make_massive(tensors: Tensors, config: dict[str, Any], token: int) -> None:
    """One inner channel of the first layers' MLPs answers to one token, and writes thousands into one channel.

    The channel's gate and up rows point at the token's embedding, seen through the norm and away from the embeddings'
    mean and covariance, so that no other token excites them as much.
    """
    table = tensors["embed_tokens.weight"].astype(np.float64)
    rows = table / np.sqrt((table**2).mean(axis=1, keepdims=True))
    mean = rows.mean(axis=0)
    centred = rows - mean
    covariance = centred.T @ centred / len(rows)
    direction = np.linalg.solve(covariance + 0.1 * np.eye(len(covariance)), rows[token] - mean)
    direction /= direction @ rows[token]
    for layer in list(layers_of(config))[:MASSIVE_LAYERS]:
        norm = tensors[f"{layer}.post_attention_layernorm.weight"].astype(np.float64)
        row = direction / np.where(norm == 0, 1, norm)
        tensors[f"{layer}.mlp.gate_proj.weight"][7] = row * 40
        tensors[f"{layer}.mlp.up_proj.weight"][7] = row * 200
        column = tensors[f"{layer}.mlp.down_proj.weight"][:, 7]
        column[:] = 0
        column[3] = 1


def make_cancelling(tensors: Tensors, config: dict[str, Any]) -> None:
    """In every MLP two inner channels are the same, and down_proj takes one from the other, each CANCELLING times over.

    What is left of the two is the first one's old share; the second one's is lost.
    """
    generator = np.random.default_rng(0)
    for layer in layers_of(config):
        for name in ("gate_proj", "up_proj"):
            weight = tensors[f"{layer}.mlp.{name}.weight"]
            weight[1] = weight[0]
        down = tensors[f"{layer}.mlp.down_proj.weight"]
        large = CANCELLING * down.std() * generator.standard_normal(len(down)).astype(np.float32)
        down[:, 1] = -large
        down[:, 0] += large


def make_towering(tensors: Tensors, config: dict[str, Any]) -> None:
    """The residual stream times STREAM_FACTOR, which norms take away again but for their epsilon."""
    for name in ("embed_tokens", *(f"{layer}.{part}" for layer in layers_of(config) for part in STREAM_WRITERS)):
        tensors[f"{name}.weight"] *= STREAM_FACTOR
    rescale_values(tensors, config, lambda count: np.full(count, VALUE_FACTOR))


def make_bursting(tensors: Tensors, config: dict[str, Any], token: int) -> None:
    """`massive`, with up_proj times PRODUCT_FACTOR and down_proj divided by it."""
    make_massive(tensors, config, token)
    for layer in layers_of(config):
        tensors[f"{layer}.mlp.up_proj.weight"] *= PRODUCT_FACTOR
        tensors[f"{layer}.mlp.down_proj.weight"] /= PRODUCT_FACTOR


def make_outlier(tensors: Tensors, config: dict[str, Any]) -> None:
    """One channel of every embedding is thousands of times the others, and no norm lets it through.

    The other weights of norms make up for what it adds to the root mean square, roughly.
    """
    table = tensors["embed_tokens.weight"]
    spread = float(table.std())
    table[:, OUTLIER] = LARGEST * spread
    shrunk = LARGEST / np.sqrt(config["hidden_size"])
    for name, values in tensors.items():
        if name.endswith("layernorm.weight") or name == "norm.weight":
            values *= shrunk
            values[OUTLIER] = 0


def layers_of(config: dict[str, Any]) -> list[str]:
    """The prefixes of the decoder's layers."""
    return [f"layers.{layer}" for layer in range(config["num_hidden_layers"])]


RESCALINGS: dict[str, Callable[[Tensors, dict[str, Any], Factors], None]] = {
    "norms": rescale_norms,
    "products": rescale_products,
    "values": rescale_values,
    "all": rescale_all,
}
KINDS = {"spread": spread, "single": single}
CHANGES: dict[str, Callable[[Tensors, dict[str, Any]], None]] = {
    "outlier": make_outlier,
    "cancelling": make_cancelling,
    "towering": make_towering,
}
EXCITED: dict[str, Callable[[Tensors, dict[str, Any], int], None]] = {
    "massive": make_massive,
    "bursting": make_bursting,
}
ADVERSARIES = (*(f"{name} {kind}" for name in RESCALINGS for kind in KINDS), "massive", "outlier", "cancelling")
"""Hard for int8."""
OVERFLOWING = ("towering", "bursting")
"""Beyond float16."""


def write_adversary(source: Path, folder: Path, name: str, seed: int = 0) -> Path:
    """A copy of a checkpoint, changed as one of ADVERSARIES or OVERFLOWING says."""
    shutil.copytree(source, folder)
    config = json.loads((source / "config.json").read_text())
    tensors: Tensors = {
        key: values.astype(np.float32) for key, values in load_file(source / "model.safetensors").items()
    }
    if name in EXCITED:
        vocabulary = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
        EXCITED[name](tensors, config, vocabulary[MASSIVE_WORD])
    elif name in CHANGES:
        CHANGES[name](tensors, config)
    else:
        what, kind = name.split()
        RESCALINGS[what](tensors, config, KINDS[kind](np.random.default_rng(seed)))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
