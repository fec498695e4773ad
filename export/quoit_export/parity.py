"""How far a variant's vectors are from its reference's, and the floor below which it is not published.

Vectors come from the runtime itself, on a fixed set of texts in some thirty languages, code and symbols; the
reference of fp16 and int8 is fp32, and that of fp32 is transformers. This module does not know what makes a
variant better.
"""

import sys
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoit.artifact import Artifact, Parity, Precision
from quoit.embedder import Embedder
from quoit_export.checkpoint import Checkpoint
from quoit_export.errors import ParityError

Vectors = NDArray[np.float32]

FLOORS: dict[Precision, float] = {"fp32": 0.99999, "fp16": 0.9995, "int8": 0.98}
"""The least cosine similarity to the reference that any of the texts may have."""


def parity_texts() -> list[str]:
    """The fixed texts."""
    file = resources.files("quoit_export") / "parity_texts.txt"
    return file.read_text(encoding="utf-8").splitlines()


def variant_vectors(artifact: Artifact, precision: Precision) -> Vectors:
    """The texts' vectors from a variant, [n, hidden] unit rows, on the CPU provider."""
    embedder = Embedder(artifact, precision=precision, provider="cpu")
    vectors: Vectors = embedder.encode(parity_texts(), show_progress=sys.stderr.isatty())
    return vectors


def transformers_vectors(checkpoint: Checkpoint, artifact: Artifact) -> Vectors:
    """The texts' vectors from transformers' `Qwen3Model` in float32, one text at a time.

    Raises:
        ParityError: torch or transformers is not installed.
    """
    try:
        import torch
        from transformers import Qwen3Model
        from transformers.utils import logging
    except ImportError as error:
        raise ParityError(f"--verify needs torch and transformers ({error}); `pip install 'quoit[verify]'`") from error
    from quoit.tokens import TextTokenizer

    if not sys.stderr.isatty():
        disable: Callable[[], None] = logging.disable_progress_bar
        disable()
    manifest = artifact.manifest
    tokenizer = TextTokenizer.load(
        artifact.path(manifest.tokenizer),
        max_tokens=manifest.max_tokens,
        end_token_id=manifest.end_token_id,
        vocab_size=manifest.architecture.vocab_size,
    )
    model: Any = Qwen3Model.from_pretrained(checkpoint.folder, dtype=torch.float32)
    model.eval()
    rows = tokenizer.encode(parity_texts()).ids
    with torch.inference_mode():
        states = [model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1].numpy() for ids in rows]
    vectors = np.stack(states)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def compare(vectors: Vectors, reference: Vectors, name: str, floor: float) -> Parity:
    """Cosine similarity of unit rows to those of a reference."""
    cosines = np.einsum("nd,nd->n", vectors.astype(np.float64), reference.astype(np.float64))
    return Parity(
        reference=name,
        texts=len(cosines),
        cosine_mean=round(float(cosines.mean()), 7),
        cosine_min=round(float(cosines.min()), 7),
        floor=floor,
    )


def passes(parity: Parity) -> bool:
    """Whether every text is at or above the floor."""
    return parity.cosine_min >= parity.floor
