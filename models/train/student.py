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
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from random_checkpoint import write_json, write_sentence_transformers_files
from train.vocabulary import VOCABULARY

HIDDEN = 256
LAYERS = 4
AVERAGING_LAYERS = 2
MAX_TOKENS = 1_024
NEARLY_EVEN = 0.3
"""Weight of q_norm where a layer starts as an average: attention logits then spread by about as much."""


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


def start(tokens: NDArray[np.float32], seed: int) -> Qwen3Model:
    """A model whose last state is about the last token's row plus the mean of all rows before it.

    Args:
        tokens: `[16384, 256]`, a row for every token.
        seed: of everything that is random.
    """
    torch.manual_seed(seed)
    config = configuration()
    model: Any = Qwen3Model(config)
    width = config.num_key_value_heads * config.head_dim
    group = config.num_attention_heads // config.num_key_value_heads
    with torch.no_grad():
        model.embed_tokens.weight.copy_(torch.from_numpy(tokens))
        for layer in model.layers:
            for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
                linear.weight.mul_((2 * config.num_hidden_layers) ** -0.5)
        for number, layer in enumerate(model.layers[:AVERAGING_LAYERS]):
            attention = layer.self_attn
            attention.q_norm.weight.fill_(NEARLY_EVEN)
            rows = slice(number * width, (number + 1) * width)
            values = torch.eye(width).reshape(config.num_key_value_heads, 1, config.head_dim, width)
            heads = values.expand(-1, group, -1, -1).reshape(-1, width) / group
            attention.v_proj.weight.zero_()[:, rows] = torch.eye(width)
            attention.o_proj.weight.zero_()[rows] = heads.T * HIDDEN**-0.5
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
    write_json(draft / "config.json", {name: value for name, value in config.items() if value is not None})
    tokenizer.save(str(draft / "tokenizer.json"), pretty=False)
    if isinstance(model, Qwen3Model):
        write_sentence_transformers_files(draft)
    draft.rename(folder)
