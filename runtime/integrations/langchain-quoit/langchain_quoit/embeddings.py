"""Embeddings for LangChain."""

import os
from typing import Any, Self

from langchain_core.embeddings import Embeddings
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from quoit import Embedder, shared


class QuoitEmbeddings(BaseModel, Embeddings):
    """Vectors of a quoit artifact: queries with the query prompt, documents with the document prompt.

        embeddings = QuoitEmbeddings(model="models/embedding-onnx")
        vector = embeddings.embed_query("What is the capital of China?")

    The model is loaded at the first call, once a process for equal options.

    Attributes:
        model: folder of the artifact, or a hub id; by default what QUOIT_MODEL names.
        instruction: task of the query prompt, instead of the checkpoint's prompt.
        dim: number of values that are kept of each vector; None for all.
        options: options of `quoit.Embedder`, such as `{"precision": "int8", "threads": 2}`.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = Field(default_factory=lambda: os.environ["QUOIT_MODEL"])
    instruction: str | None = None
    dim: int | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    _embedder: Embedder | None = PrivateAttr(None)

    @classmethod
    def from_embedder(cls, embedder: Embedder, **fields: Any) -> Self:
        """Return embeddings of a model that is loaded already."""
        made = cls(model=str(embedder.pipeline.artifact.folder), **fields)
        made._embedder = embedder
        return made

    @property
    def embedder(self) -> Embedder:
        """The loaded model."""
        if self._embedder is None:
            found = shared(self.model, **self.options)
            if not isinstance(found, Embedder):
                raise TypeError(f"{self.model} is a reranker; use QuoitReranker")
            self._embedder = found
        return self._embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of documents."""
        vectors: list[list[float]] = self.embedder.encode_document(texts, dim=self.dim).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        vector: list[float] = self.embedder.encode_query(text, instruction=self.instruction, dim=self.dim).tolist()
        return vector
