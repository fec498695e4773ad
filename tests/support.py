"""What the tests have in common: small checkpoints by transformers, and the types of the fixtures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification, Qwen3Model

from quoit import Embedder, Reranker
from quoit.artifact import Precision
from qwen3_tokenizer import END_TOKEN, byte_characters
from random_checkpoint import write_rerank_template, write_sentence_transformers_files

Vectors = NDArray[np.float32]
Ids = Sequence[int]
Oracle = Callable[[Sequence[Ids]], Vectors]
Embedders = Callable[[Precision], Embedder]
Rerankers = Callable[[Precision], Reranker]

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
    write_sentence_transformers_files(folder, model.config.hidden_size)
    return folder


RERANK_MAX_TOKENS = 40_960


def make_reranker(seed: int = 0, **changes: Any) -> Any:
    """A Qwen3ForCausalLM in bfloat16 whose answers to different pairs differ: their logits spread by about one."""
    torch.manual_seed(seed)
    numbers = SMALL | {"max_position_embeddings": RERANK_MAX_TOKENS} | changes
    model: Any = Qwen3ForCausalLM(Qwen3Config(**numbers))
    randomise_reranker(model)
    return model.to(torch.bfloat16)


def make_classifier(seed: int = 0, labels: int = 1, **changes: Any) -> Any:
    """A Qwen3ForSequenceClassification in bfloat16, otherwise like `make_reranker`."""
    torch.manual_seed(seed)
    config: Any = Qwen3Config(**(SMALL | {"max_position_embeddings": RERANK_MAX_TOKENS} | changes))
    config.num_labels = labels
    make: Any = Qwen3ForSequenceClassification
    model = make(config)
    randomise_reranker(model)
    return model.to(torch.bfloat16)


def randomise_reranker(model: Any) -> None:
    """Gives each parameter a spread at which documents, far in front of the last token, decide the answer."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                centre = 1.5 if name.endswith("model.norm.weight") else 1
                parameter.copy_(centre + 0.3 * torch.randn_like(parameter))
            else:
                spread = 0.12 if any(part in name for part in ("embed", "lm_head", "score")) else 0.08
                parameter.copy_(spread * torch.randn_like(parameter))


def save_rerank_checkpoint(folder: Path, tokenizer_file: Path, model: Any) -> Path:
    """Writes a reranker's checkpoint: save_pretrained, a tokenizer that appends nothing, and the chat template."""
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    write_rerank_template(folder)
    return folder


def without_modules(folder: Path) -> Path:
    """Removes sentence-transformers' files: only the tokenizer says then that it is an embedding model."""
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Sets keys of a JSON object on disk; a value of None removes the key."""
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def byte_tokenizer() -> Tokenizer:
    """A tokenizer whose tokens are the 256 bytes and an appended end token: with it, everything is small and quick."""
    vocabulary = {character: byte for byte, character in byte_characters().items()}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(END_TOKEN, special=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END_TOKEN}",
        pair=f"$A {END_TOKEN} $B {END_TOKEN}",
        special_tokens=[(END_TOKEN, tokenizer.token_to_id(END_TOKEN))],
    )
    return tokenizer
