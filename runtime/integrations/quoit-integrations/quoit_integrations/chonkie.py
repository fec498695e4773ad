"""Embeddings for chonkie's semantic chunkers.

A chunker compares pieces of a text with each other, so all of them get the same prompt: the document prompt, or the one
that `prompt` names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from chonkie.embeddings import BaseEmbeddings
from tokenizers import Tokenizer

from quoit import Embedder
from quoit_integrations.handles import LazyEmbedder, PromptName


class QuoitEmbeddings(BaseEmbeddings):
    """Vectors and token counts of a quoit artifact.

    chunker = SemanticChunker(QuoitEmbeddings("models/embedding-onnx"))
    """

    def __init__(
        self,
        model: str | Path | Embedder,
        *,
        prompt: PromptName = "document",
        instruction: str | None = None,
        dim: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the model, which is loaded at its first use; the arguments are those of `LazyEmbedder`."""
        super().__init__()
        self.lazy = LazyEmbedder(model, prompt=prompt, instruction=instruction, dim=dim, options=options)

    def embed(self, text: str) -> np.ndarray:
        """Return the vector of a text, [dim] float32."""
        vector: np.ndarray = self.lazy.encode([text])[0]
        return vector

    def embed_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Return the vectors of texts, each [dim] float32."""
        return list(self.lazy.encode(texts))

    @property
    def dimension(self) -> int:
        """Number of values of a vector."""
        return self.lazy.dim

    def get_tokenizer(self) -> Tokenizer:
        """Return the model's tokenizer, so that sizes of chunks count the model's own tokens."""
        return self.lazy.embedder.pipeline.tokenizer.tokenizer

    def __repr__(self) -> str:
        """Return the class and the model."""
        return f"QuoitEmbeddings(model={self.lazy.model})"
