"""Vectors and rankings for Milvus, as the functions of pymilvus.model that its examples use."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus.model.base import BaseEmbeddingFunction, BaseRerankFunction, RerankResult

from quoit import Embedder, Reranker
from quoit_integrations.handles import Handle, LazyEmbedder


class QuoitEmbeddingFunction(BaseEmbeddingFunction):
    """Vectors of a quoit artifact, each [dim] float32 of unit length.

        function = QuoitEmbeddingFunction("models/embedding-onnx")
        client.create_collection("notes", dimension=function.dim, metric_type="COSINE")

    The model is loaded at the first call, once a process for equal options. A pickle holds its name and options.
    """

    def __init__(
        self, model: str | Embedder, *, instruction: str | None = None, dim: int | None = None, **options: Any
    ) -> None:
        """Name a model, or take a loaded one.

        Args:
            model: folder of the artifact, a hub id, or a loaded model.
            instruction: task of the query prompt, instead of the checkpoint's prompt.
            dim: number of values that are kept of each vector; None for all.
            **options: options of `quoit.Embedder`.
        """
        self.lazy = LazyEmbedder(model, instruction=instruction, dim=dim, options=options)

    @property
    def dim(self) -> int:
        """Number of values of a vector."""
        return self.lazy.dim

    def encode_queries(self, queries: list[str]) -> list[NDArray[np.float32]]:
        """Return the vectors of queries, with the query prompt."""
        return list(self.lazy.encode(queries, "query"))

    def encode_documents(self, documents: list[str]) -> list[NDArray[np.float32]]:
        """Return the vectors of documents, with the document prompt."""
        return list(self.lazy.encode(documents, "document"))

    def __call__(self, texts: list[str]) -> list[NDArray[np.float32]]:
        """Return the vectors of documents, as `encode_documents` does."""
        return self.encode_documents(texts)


class QuoitRerankFunction(BaseRerankFunction):
    """Ranks documents by P(yes): that they answer the query.

    best = QuoitRerankFunction("models/reranker-onnx")("What is the capital of China?", documents, top_k=1)[0].text
    """

    def __init__(self, model: str | Reranker, *, instruction: str | None = None, **options: Any) -> None:
        """Name a model, or take a loaded one.

        Args:
            model: folder of a rerank artifact, a hub id, or a loaded model.
            instruction: the task that documents are judged by; None for the artifact's own.
            **options: options of `quoit.Reranker`.
        """
        self.handle = Handle(Reranker, model, options)
        self.instruction = instruction

    def __call__(self, query: str, documents: list[str], top_k: int | None = 5) -> list[RerankResult]:
        """Return the best documents of a query, best first, `top_k` at most; all of them for None."""
        ranking = self.handle.model.rank(query, documents, top_k=top_k, instruction=self.instruction)
        return [RerankResult(documents[ranked["index"]], ranked["score"], ranked["index"]) for ranked in ranking]
