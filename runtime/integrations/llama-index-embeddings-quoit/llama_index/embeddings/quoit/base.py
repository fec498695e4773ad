"""Embeddings for LlamaIndex."""

import asyncio
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr

from quoit import Embedder, shared

MAX_BATCH = 2048
"""Most texts that LlamaIndex hands over at once; quoit forms its own batches of them."""


class QuoitEmbedding(BaseEmbedding):
    """Vectors of a quoit artifact: queries with the query prompt, texts with the document prompt.

        embed_model = QuoitEmbedding(model_name="models/embedding-onnx")

    The model is loaded at the first call, once a process for equal options; a copy that is unpickled loads it again.

    Attributes:
        model_name: folder of the artifact, or a hub id.
        instruction: task of the query prompt, instead of the checkpoint's prompt.
        dim: number of values that are kept of each vector; None for all.
        options: options of `quoit.Embedder`, such as `{"precision": "int8", "threads": 2}`.
    """

    instruction: str | None = None
    dim: int | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    embed_batch_size: int = Field(default=MAX_BATCH, gt=0, le=MAX_BATCH)
    _embedder: Embedder | None = PrivateAttr(None)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that serialised settings have."""
        return "QuoitEmbedding"

    @property
    def embedder(self) -> Embedder:
        """The loaded model."""
        if self._embedder is None:
            found = shared(self.model_name, **self.options)
            if not isinstance(found, Embedder):
                raise TypeError(f"{self.model_name} is a reranker; use QuoitRerank")
            self._embedder = found
        return self._embedder

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loaded model out of a pickle."""
        state: dict[str, Any] = super().__getstate__()
        private = dict(state.get("__pydantic_private__") or {})
        return state | {"__pydantic_private__": private | {"_embedder": None}}

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self.embedder.encode_query(query, instruction=self.instruction, dim=self.dim).tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.embedder.encode_document(texts, dim=self.dim).tolist()
        return vectors

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
