"""Turn a Llama decoder into a Qwen3 checkpoint that computes the same function.

    python -m bench.studies.real_decoder.convert OUT [--seed 0] [--layers 12]

Qwen3 divides each head of q and k by its root mean square, and Llama does not. A head that is padded to an isometry
of its input has the same root mean square for every token, so that Qwen3's division is by a constant.

The input of q and k is g * x. x has the norm sqrt(hidden) for every token, up to the norm's epsilon, and g is the
norm's weight. W [head_dim, hidden] is a head's weight times g. A completes it, so that

    W^T W + A^T A = c I,    A = Q chol(c I - W^T W)^T,    c = SPREAD * (largest singular value of a head)^2

with a random orthogonal Q. The head [W; A] x has the norm sqrt(c * hidden) for every token. Its norm's weight is that
norm's root mean square on the rows of W, and 0 on those of A, which so have no part in the scores.

- The new head has k * head_dim rows, k = 1 + ceil(hidden / head_dim). Pair i of the rotary embedding becomes pair k * i
  of the new head, whose frequency is the same: theta^(-2 k i / (k d)) = theta^(-2 i / d).
- Qwen3 divides the scores by sqrt(k d) and Llama by sqrt(d), so the weight of q's norm has a factor sqrt(k).
- A's columns are divided by g, and v and o are padded with zeros. All else is copied.

A is random and dense for a reason: the Cholesky factor alone is nearly diagonal, and rows of few large values round
badly in int8, which would be an artefact of the conversion.
"""

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from bench.studies.real_decoder.fetch import fetch_gguf
from bench.studies.real_decoder.gguf_file import END_TOKEN, Llama, Matrix

SPREAD = 16.0
"""The constant c, relative to the largest squared singular value of a layer's heads."""
NORM = "input_layernorm"
MODULES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
"""Modules of sentence-transformers and their folders."""
OTHER_POOLING = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")

Float64 = NDArray[np.float64]


def convert(llama: Llama, seed: int) -> tuple[dict[str, Any], dict[str, Matrix]]:
    """Return the config and the tensors of the same function as a Qwen3 decoder, named as in `Qwen3Model`.

    Args:
        llama: the decoder.
        seed: the seed of the orthogonal matrices; another one is another completion of the heads.
    """
    config = llama.config
    size, hidden = config["head_dim"], config["hidden_size"]
    factor = 1 + math.ceil(hidden / size)
    generator = np.random.default_rng(seed)
    tensors = dict(llama.tensors)
    for layer in range(config["num_hidden_layers"]):
        own = {name: f"layers.{layer}.self_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
        gain = tensors[f"layers.{layer}.{NORM}.weight"].astype(np.float64)
        heads = {name: tensors[own[name]].astype(np.float64).reshape(-1, size, hidden) for name in ("q_proj", "k_proj")}
        largest = max(float(np.linalg.norm(head * gain, 2)) for weight in heads.values() for head in weight)
        scale = SPREAD * largest**2
        for name, weight in heads.items():
            padded = [complete(head, gain, scale, factor, generator) for head in weight]
            tensors[own[name]] = np.concatenate(padded).astype(np.float32)
        norm = head_norm(size, factor, scale * hidden, config["rms_norm_eps"])
        tensors[f"layers.{layer}.self_attn.q_norm.weight"] = (norm * math.sqrt(factor)).astype(np.float32)
        tensors[f"layers.{layer}.self_attn.k_norm.weight"] = norm.astype(np.float32)
        values = tensors[own["v_proj"]].reshape(-1, size, hidden)
        tensors[own["v_proj"]] = padded_to(values, 1, factor * size).reshape(-1, hidden)
        outputs = tensors[own["o_proj"]].reshape(hidden, -1, size)
        tensors[own["o_proj"]] = padded_to(outputs, 2, factor * size).reshape(hidden, -1)
    return config | {"head_dim": factor * size}, tensors


def complete(head: Float64, gain: Float64, scale: float, factor: int, generator: np.random.Generator) -> Float64:
    """Return a head's weight [factor * head_dim, hidden]: its own rows in their new places, and the completion's.

    Args:
        head: the head's weight [head_dim, hidden].
        gain: the weight of the norm before it [hidden].
        scale: the constant c.
        factor: how many times as many rows the new head has.
        generator: the source of the orthogonal matrix.
    """
    size, hidden = head.shape
    own = head * gain
    root = np.linalg.cholesky(scale * np.eye(hidden) - own.T @ own)
    rows = np.empty((factor * size, hidden))
    places = new_places(size, factor)
    others = np.setdiff1d(np.arange(factor * size), places)
    turn = np.linalg.qr(generator.standard_normal((len(others), hidden)))[0]
    rows[places] = head
    rows[others] = turn @ root.T / gain
    return rows


def new_places(size: int, factor: int) -> NDArray[np.intp]:
    """Return the rows of a head in the new head: pair i of the rotary embedding becomes pair factor * i."""
    pairs = factor * np.arange(size // 2)
    return np.concatenate([pairs, pairs + factor * size // 2])


def head_norm(size: int, factor: int, square: float, epsilon: float) -> Float64:
    """Return the weight of a head's norm [factor * head_dim], which takes back what the norm divides by.

    Args:
        size: rows of the old head.
        factor: how many times as many rows the new head has.
        square: squared norm of the new head's values, the same for every token.
        epsilon: the norm's epsilon.
    """
    weight = np.zeros(factor * size)
    weight[new_places(size, factor)] = math.sqrt(square / (factor * size) + epsilon)
    return weight


def padded_to(values: Matrix, axis: int, size: int) -> Matrix:
    """Return the values with zeros behind them along an axis."""
    width = [(0, size - values.shape[axis] if here == axis else 0) for here in range(values.ndim)]
    return np.pad(values, width)


def write_checkpoint(folder: Path, llama: Llama, seed: int = 0) -> Path:
    """Write the converted decoder as a new checkpoint folder, and return the folder.

    Weights are float32, so that they are exactly those of the GGUF wherever they are copied. The vector of a text is
    the state of the END_TOKEN behind it, and no prompt is before it. An interrupted call leaves no such folder.
    """
    # Many small factorizations: OpenBLAS's threads wait for each other, a hundred times as long on a busy machine.
    with threadpool_limits(limits=1):
        config, tensors = convert(llama, seed)
    draft = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    document = {
        "architectures": ["Qwen3Model"],
        "model_type": "qwen3",
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": True,
        "dtype": "float32",
        **config,
    }
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_TOKEN,
        "pad_token": END_TOKEN,
        "padding_side": "left",
    }
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(MODULES.items())
    ]
    pooling: dict[str, Any] = {"word_embedding_dimension": config["hidden_size"], "pooling_mode_lasttoken": True}
    files: dict[str, Any] = {
        "config.json": document,
        "tokenizer_config.json": tokenizer,
        "modules.json": modules,
        "config_sentence_transformers.json": {"prompts": {"query": "", "document": ""}, "similarity_fn_name": "cosine"},
        "1_Pooling/config.json": pooling | {f"pooling_mode_{name}": False for name in OTHER_POOLING},
    }
    (draft / "1_Pooling").mkdir()
    for name, content in files.items():
        (draft / name).write_text(json.dumps(content, indent=2))
    llama.tokenizer.save(str(draft / "tokenizer.json"))
    save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
    return draft.rename(folder)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the trained decoder as a Qwen3 checkpoint.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="seed of the completion of the heads")
    parser.add_argument("--layers", type=int, help="number of layers (default: all)")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists; name another folder")
    print(write_checkpoint(options.out, Llama.read(fetch_gguf(), options.layers), options.seed))


if __name__ == "__main__":
    main()
