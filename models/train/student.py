"""The small Qwen3 models: their numbers, a start that already means something, and their files.

The first two layers start as an average: every position attends evenly to all before it and copies half of the
hidden dimensions each, so that the last token's state is the mean of the token rows, and those rows start as
the teacher's vectors of the tokens' texts. Training begins there instead of at noise.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from random_checkpoint import write_json, write_sentence_transformers_files
from train.table import Table
from train.vocabulary import VOCABULARY

HIDDEN = 256
LAYERS = 4
AVERAGING_LAYERS = 2
MAX_TOKENS = 1_024
ONE, WEIGHT = 254, 255
"""Dimensions of the hidden state that no content is in: a constant, and what tells a token's weight."""
CONTENT = 254
SCALE = 16.0
"""Length of a token's row, so that its entries are about one. The norms make the layers indifferent to it, but not the
optimizers: next to larger states, what a step of theirs adds to them is smaller."""
LENGTH = 0.25
"""Of the constant, in units of SCALE, as all that follows."""
END_LENGTH = 0.1
"""Of the constant in the end token's row, which has nothing else."""
HEAVIEST = 4.0
"""Logarithms of weights are cut to this."""
SHARPNESS = 0.6
"""Weight of q_norm where a layer starts as a weighted mean: a logit is at most head_dim ** 0.5 times as much."""
KEY_GAIN, VIEW = 4.0, 0.2
"""How much larger than one the keys see ONE and WEIGHT, and how much smaller the rest of the state."""
MEAN_GAIN = 0.5
"""Of the weighted mean, as a layer writes it: small beside a token's own row, which the next layer reads too."""


def configuration(layers: int = LAYERS) -> Any:
    """The numbers of both small models: 4.2 M parameters in the tied token table, 0.66 M in each layer."""
    make: Any = Qwen3Config
    return make(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=512,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=MAX_TOKENS,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation="eager",  # on a CPU its backward is 1.5 x faster than sdpa's at these lengths
    )


def principal_directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[384, 256]`: the directions in which the teacher's vectors are largest, in falling order.

    A prefix of a projected vector is then the best one of its length, which is what Matryoshka prefixes want.
    """
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    return np.ascontiguousarray(directions[:, ::-1][:, :HIDDEN])


def token_rows(vectors: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[tokens, 256]`, unit rows: the teacher's vectors of the tokens' texts, without what all share, projected."""
    rows = (vectors - vectors.mean(axis=0)) @ directions
    found: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
    return found


def weighted_rows(table: Table, head_dim: int) -> NDArray[np.float32]:
    """`[tokens, 256]`: the table's rows, beside the constant and what makes a layer weigh them by their weights.

    A key is (1, t) in two of its dimensions, and the norms before and behind its projection keep but the ratio. The
    logit, SHARPNESS * head_dim ** 0.5 * t / (1 + t**2) ** 0.5, shall be the logarithm of the weight, plus that of the
    row's length, by which the layer's norm divides the values.
    """
    rows = table.rows.copy()
    logs = table.weights.clip(-HEAVIEST, HEAVIEST)
    most = SHARPNESS * head_dim**0.5
    tangents = np.zeros_like(logs)
    for _ in range(8):  # the length depends on what it corrects, slightly
        lengths = np.sqrt(1 + LENGTH**2 * (1 + tangents**2))
        ratio = ((logs + np.log(lengths)) / most).clip(-0.98, 0.98)
        tangents = ratio / np.sqrt(1 - ratio**2)
    rows[:, ONE] = LENGTH
    rows[:, WEIGHT] = LENGTH * tangents
    return SCALE * rows


def write_mean(attention: Any, asking: int, first: int) -> None:
    """Every head becomes the weighted mean of the positions it sees; the layer copies 128 dimensions from `first` on.

    Queries are the same everywhere, made of the dimension `asking`. Queries and keys see a little of everything else,
    or there would be nothing for training to begin with.
    """
    config = attention.config
    width = config.num_key_value_heads * config.head_dim
    group = config.num_attention_heads // config.num_key_value_heads
    still, paired = config.head_dim // 2 - 1, config.head_dim - 1  # the rotary embedding turns these least
    attention.q_norm.weight.fill_(SHARPNESS)
    for linear, view in ((attention.k_proj, VIEW), (attention.q_proj, VIEW * END_LENGTH)):
        linear.weight.copy_(view * nn.init.orthogonal_(torch.empty_like(linear.weight)))
    keys = attention.k_proj.weight.view(-1, config.head_dim, config.hidden_size)
    queries = attention.q_proj.weight.view(-1, config.head_dim, config.hidden_size)
    for heads in (keys, queries):
        heads[:, [still, paired]] = 0
        heads[:, :, [ONE, WEIGHT]] = 0
    keys[:, paired, ONE] = keys[:, still, WEIGHT] = KEY_GAIN
    queries[:, still, asking] = KEY_GAIN
    size = min(width, CONTENT - first)
    copied = torch.eye(width)[:size]
    attention.v_proj.weight.zero_()[:size, first : first + size] = torch.eye(size)
    values = copied.T.reshape(config.num_key_value_heads, 1, config.head_dim, size).expand(-1, group, -1, -1)
    attention.o_proj.weight.zero_()[first : first + size] = (
        SCALE * MEAN_GAIN * config.hidden_size**-0.5 * (values.reshape(-1, size).T / group)
    )


def start(table: Table, end_token: int, seed: int) -> Qwen3Model:
    """A model whose last state is the weighted mean of the rows before it: the table's own vector of a text.

    The end token's row has nothing of its own to add, and the final norm leaves out ONE and WEIGHT.

    Args:
        table: a row and a weight for every token.
        end_token: the last token of every text.
        seed: of everything that is random.
    """
    torch.manual_seed(seed)
    config = configuration()
    model: Any = Qwen3Model(config)
    with torch.no_grad():
        model.embed_tokens.weight.copy_(torch.from_numpy(weighted_rows(table, config.head_dim)))
        model.embed_tokens.weight[end_token] = 0
        model.embed_tokens.weight[end_token, ONE] = SCALE * END_LENGTH
        model.norm.weight[[ONE, WEIGHT]] = 0
        for layer in model.layers:
            for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
                linear.weight.zero_()
        for number, layer in enumerate(model.layers[:AVERAGING_LAYERS]):
            write_mean(layer.self_attn, ONE, number * config.num_key_value_heads * config.head_dim)
    started: Qwen3Model = model
    return started


def write_checkpoint(folder: Path, model: Qwen3Model | Qwen3ForCausalLM, tokenizer: Tokenizer) -> None:
    """The files of an official checkpoint: bfloat16 tensors, configuration, tokenizer; for embedding the modules.

    The folder appears whole or not at all.
    """
    draft = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    tensors.pop("lm_head.weight", None)  # tied to the token table
    save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "bfloat16"}
    # transformers 4 reads it here, and takes 10,000 without a word where it is not.
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    write_json(draft / "config.json", {name: value for name, value in config.items() if value is not None})
    tokenizer.save(str(draft / "tokenizer.json"), pretty=False)
    if isinstance(model, Qwen3Model):
        write_sentence_transformers_files(draft, model.config.hidden_size)
    draft.rename(folder)
