"""An encoder for semantic-router: queries get the query prompt, utterances of routes the document prompt.

Utterances are examples of queries. `routes="query"` gives them the query prompt too.
"""

import asyncio
from typing import Any, Self

from pydantic import Field, PrivateAttr
from semantic_router.encoders import DenseEncoder
from semantic_router.encoders.base import AsymmetricDenseMixin

from quoit import Embedder
from quoit_integrations.handles import LazyEmbedder, PromptName


class QuoitEncoder(AsymmetricDenseMixin, DenseEncoder):
    """Vectors of a quoit artifact, which is loaded at the first call.

        encoder = QuoitEncoder(name="models/embedding-onnx")

    Attributes:
        name: folder of the artifact, or a hub id.
        type: kind of the encoder.
        routes: name of the prompt before utterances of routes; a plain call gives it to all texts.
        instruction: task of the query prompt, instead of the checkpoint's prompt.
        dim: number of values that are kept of each vector; None for all.
        options: options of `quoit.Embedder`, such as `{"precision": "int8", "threads": 2}`.
    """

    type: str = "quoit"
    routes: PromptName = "document"
    instruction: str | None = None
    dim: int | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    _lazy: LazyEmbedder = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        """Make the handle of the model."""
        self._lazy = self._handle(self.name, self.options)

    @classmethod
    def from_embedder(cls, embedder: Embedder, **fields: Any) -> Self:
        """Return an encoder of a model that is loaded already."""
        made = cls(name=str(embedder.pipeline.artifact.folder), **fields)
        made._lazy = made._handle(embedder, None)
        return made

    def encode_queries(self, docs: list[str]) -> list[list[float]]:
        """Return the vectors of queries."""
        vectors: list[list[float]] = self._lazy.encode(docs, "query").tolist()
        return vectors

    def encode_documents(self, docs: list[str]) -> list[list[float]]:
        """Return the vectors of utterances of routes."""
        vectors: list[list[float]] = self._lazy.encode(docs).tolist()
        return vectors

    async def aencode_queries(self, docs: list[str]) -> list[list[float]]:
        """Return the vectors of queries, computed in a thread."""
        return await asyncio.to_thread(self.encode_queries, docs)

    async def aencode_documents(self, docs: list[str]) -> list[list[float]]:
        """Return the vectors of utterances of routes, computed in a thread."""
        return await asyncio.to_thread(self.encode_documents, docs)

    __call__ = encode_documents
    acall = aencode_documents

    def _handle(self, model: str | Embedder, options: dict[str, Any] | None) -> LazyEmbedder:
        return LazyEmbedder(model, prompt=self.routes, instruction=self.instruction, dim=self.dim, options=options)
