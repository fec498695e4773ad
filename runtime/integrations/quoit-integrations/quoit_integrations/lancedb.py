"""Vectors and rankings for LanceDB: rows with the document prompt, searched texts with the query prompt."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import pyarrow as pa
from lancedb.embeddings import TextEmbeddingFunction, register
from lancedb.rerankers import Reranker
from numpy.typing import NDArray
from pydantic import ConfigDict, PrivateAttr

import quoit
from quoit_integrations.handles import Handle, LazyEmbedder

Embeddings = list[NDArray[np.float32] | None]
"""Vectors of [dim] float32 each, None for a null."""


@register("quoit")
class QuoitEmbeddings(TextEmbeddingFunction):
    """An embedding function of a quoit artifact.

        function = QuoitEmbeddings.create(name="models/embedding-onnx", precision="int8")

    LanceDB keeps the arguments of `create` with the table, and makes the function again when the table is opened; this
    module must be imported by then. The model is loaded at the first use, once a process for equal options.

    Attributes:
        name: folder of the artifact, or a hub id.
        instruction: task of the query prompt, instead of the checkpoint's prompt.
        dim: number of values that are kept of each vector; None for all.
        max_retries: how often LanceDB repeats a call that failed. The model fails again in the same way, so 0.

    Other arguments are options of `quoit.Embedder`.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    instruction: str | None = None
    dim: int | None = None
    max_retries: int = 0
    _lazy: LazyEmbedder = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Name the model, without loading it."""
        super().model_post_init(context)
        options = self.model_extra or {}
        self._lazy = LazyEmbedder(self.name, instruction=self.instruction, dim=self.dim, options=options)

    @classmethod
    def from_embedder(cls, embedder: quoit.Embedder, **arguments: Any) -> Self:
        """Return the function of a loaded model; the table keeps the model's folder and options."""
        named = LazyEmbedder(embedder)
        made: Self = cls.create(name=named.model, **named.options, **arguments)
        made._lazy = LazyEmbedder(embedder, instruction=made.instruction, dim=made.dim)
        return made

    def ndims(self) -> int:
        """Return the number of values of a vector.

        Raises:
            TypeError: the artifact is for reranking.
        """
        return self._lazy.dim

    def compute_query_embeddings(self, query: str, *_: Any, **__: Any) -> Embeddings:
        """Return the vector of a searched text, with the query prompt."""
        return list(self._lazy.encode(self.sanitize_input(query), "query"))

    def generate_embeddings(self, texts: Iterable[str | None], *_: Any, **__: Any) -> Embeddings:
        """Return the vectors of rows, with the document prompt; `compute_source_embeddings` calls this."""
        listed = list(texts)
        vectors = iter(self._lazy.encode([text for text in listed if text is not None], "document"))
        return [None if text is None else next(vectors) for text in listed]


class QuoitReranker(Reranker):
    """Orders the results of a search by P(yes): that they answer the query. A null is an empty text.

    found = notes.search("What is the capital of China?").rerank(QuoitReranker("models/reranker-onnx")).to_list()
    """

    def __init__(
        self,
        model: str | quoit.Reranker,
        *,
        column: str = "text",
        return_score: str = "relevance",
        instruction: str | None = None,
        **options: Any,
    ) -> None:
        """Name a model, or take a loaded one.

        Args:
            model: folder of a rerank artifact, a hub id, or a loaded model.
            column: column of the texts.
            return_score: "relevance" to return P(yes) alone, "all" to return the scores of the search too.
            instruction: the task that documents are judged by; None for the artifact's own.
            **options: options of `quoit.Reranker`.

        Raises:
            ValueError: `return_score` is neither "relevance" nor "all".
        """
        super().__init__(return_score)
        self.handle = Handle(quoit.Reranker, model, options)
        self.column, self.instruction = column, instruction

    def rerank_vector(self, query: str, vector_results: pa.Table) -> pa.Table:
        """Return the results of a vector search, best first, with a column `_relevance_score`."""
        return self._ranked(query, vector_results)

    def rerank_fts(self, query: str, fts_results: pa.Table) -> pa.Table:
        """Return the results of a full-text search, best first, with a column `_relevance_score`."""
        return self._ranked(query, fts_results)

    def rerank_hybrid(self, query: str, vector_results: pa.Table, fts_results: pa.Table) -> pa.Table:
        """Return the results of both searches, each row once, best first, with a column `_relevance_score`."""
        keeps_scores = self.score == "all" and len(vector_results) + len(fts_results) > 0
        merge = self._merge_and_keep_scores if keeps_scores else self.merge_results
        return self._ranked(query, merge(vector_results, fts_results))

    def _ranked(self, query: str, results: pa.Table) -> pa.Table:
        texts = [text or "" for text in results[self.column].to_pylist()]
        ranking = self.handle.model.rank(query, texts, instruction=self.instruction)
        order = pa.array([ranked["index"] for ranked in ranking], pa.int64())
        scores = pa.array([ranked["score"] for ranked in ranking], pa.float32())
        return self._keep_relevance_score(results.take(order).append_column("_relevance_score", scores))
