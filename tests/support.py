"""What the tests have in common: small checkpoints by transformers, and the types of the fixtures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen3Config, Qwen3Model

from quoit import Embedder
from quoit.artifact import Precision
from random_checkpoint import write_sentence_transformers_files

Vectors = NDArray[np.float32]
Ids = Sequence[int]
Oracle = Callable[[Sequence[Ids]], Vectors]
Embedders = Callable[[Precision], Embedder]

# hidden_size is not num_attention_heads * head_dim, as in the 0.6B and 4B checkpoints.
SMALL = {
    "vocab_size": 151_669,
    "hidden_size": 96,
    "intermediate_size": 224,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
}


def make_model(seed: int = 0, **changes: Any) -> Any:
    """A Qwen3Model whose norms and attention are not trivial, in bfloat16."""
    torch.manual_seed(seed)
    model: Any = Qwen3Model(Qwen3Config(**(SMALL | changes)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_((0.02 if "embed" in name else 0.08) * torch.randn_like(parameter))
    return model.to(torch.bfloat16)


def save_checkpoint(folder: Path, tokenizer_file: Path, model: Any, *, shard_size: str = "5GB") -> Path:
    """Writes a model as an embedding checkpoint: save_pretrained, tokenizer, prompts and modules."""
    model.save_pretrained(folder, max_shard_size=shard_size)
    (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    write_sentence_transformers_files(folder)
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Sets keys of a JSON object on disk; a value of None removes the key."""
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
