"""Compare a converted checkpoint with transformers' Llama, made from the GGUF's tensors, at every token.

This module imports torch and transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, LlamaConfig, LlamaModel

from bench.studies.real_decoder.gguf_file import Llama


@dataclass(frozen=True)
class Agreement:
    """How near the states of two models are, over all tokens of all texts.

    Attributes:
        tokens: number of tokens.
        cosine: least cosine of the two states of a token, after the final norm.
        error: largest norm of the difference of a token's states, relative to the norm of Llama's.
        largest: largest absolute value of the residual stream in Llama, before the final norm.
    """

    tokens: int
    cosine: float
    error: float
    largest: float


def llama_model(llama: Llama) -> LlamaModel:
    """Return transformers' model of a decoder, in float32."""
    make: Any = LlamaModel
    model: LlamaModel = make(LlamaConfig(**llama.config)).eval()
    model.load_state_dict({name: torch.from_numpy(values) for name, values in llama.tensors.items()})
    return model


def compare(llama: Llama, checkpoint: Path, texts: Sequence[str]) -> Agreement:
    """Return how near the states of a converted checkpoint are to Llama's, one text at a time."""
    ours, theirs = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval(), llama_model(llama)
    rows = [torch.tensor([encoded.ids]) for encoded in llama.tokenizer.encode_batch(list(texts))]
    streams: list[float] = []
    theirs.norm.register_forward_pre_hook(lambda _, inputs: streams.append(float(inputs[0].abs().max())))
    with torch.inference_mode():
        pairs = [[model(input_ids=row).last_hidden_state[0].double() for model in (ours, theirs)] for row in rows]
    left, right = (torch.cat(states) for states in zip(*pairs, strict=True))
    errors = (left - right).norm(dim=1) / right.norm(dim=1)
    cosines = torch.cosine_similarity(left, right, dim=1)
    return Agreement(len(left), float(cosines.min()), float(errors.max()), max(streams))
