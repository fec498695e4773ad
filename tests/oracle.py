"""The reference: small checkpoints that transformers writes, and what transformers answers for them.

This module imports torch and transformers. A test that needs neither does not import it, and fixtures import it when
they run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification, Qwen3Model

from random_checkpoint import write_rerank_template, write_sentence_transformers_files
from support import SMALL, Ids, Vectors


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


def load_reference(folder: Path) -> Any:
    """The checkpoint's Qwen3Model in float32."""
    model: Any = Qwen3Model.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    return model


def unit_vectors(model: Any, rows: Sequence[Ids]) -> Vectors:
    """Unit vectors `[row, hidden_size]` of token rows by transformers, one row at a time, in float32."""
    with torch.inference_mode():
        states = [model(input_ids=torch.tensor([list(row)])).last_hidden_state[0, -1] for row in rows]
    vectors: Vectors = torch.nn.functional.normalize(torch.stack(states)).numpy()
    return vectors
