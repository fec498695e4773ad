"""Define the family of dense Qwen3 decoders: Qwen3-Embedding, Qwen3-Reranker, and models made from them."""

from pathlib import Path
from typing import Any

import msgspec

from quoit.artifact import Family
from quoit_export.families import FamilyReader
from quoit_export.families.qwen3.config import Config, read_config
from quoit_export.families.qwen3.decoder import author_layers
from quoit_export.families.qwen3.tensors import (
    FINAL_NORM,
    TOKEN_TABLE,
    costs_of,
    linear_inputs,
    packed_linears,
    stream_writers,
    tensor_shapes,
)
from quoit_export.families.qwen3.tokenizer import TOKENIZER_RULES
from quoit_export.graph.architecture import Architecture, AttentionConfig

TITLE = "dense Qwen3"


def architecture_of(config: Config) -> Architecture:
    """Return the architecture of a decoder with these numbers."""
    return Architecture(
        title=TITLE,
        family=Family("qwen3", msgspec.structs.asdict(config)),
        dimension=config.hidden_size,
        vocab_size=config.vocab_size,
        attention=AttentionConfig(
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_norm_eps,
            rope_theta=config.rope_theta,
        ),
        costs=costs_of(config),
        token_table=TOKEN_TABLE,
        final_norm=FINAL_NORM,
        tensors=tensor_shapes(config),
        inputs=linear_inputs(config),
        stream_writers=stream_writers(config),
        packed=packed_linears(config),
        author=author_layers,
    )


def read(config: dict[str, Any], folder: Path) -> Architecture:
    """See `FamilyReader.read`."""
    return architecture_of(read_config(config, folder))


FAMILY = FamilyReader(title=TITLE, model_types=("qwen3",), tokenizer=TOKENIZER_RULES, read=read)
