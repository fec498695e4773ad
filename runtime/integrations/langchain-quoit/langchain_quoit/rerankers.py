"""Rerankers for LangChain."""

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from quoit import Reranker, shared


class _Loading(BaseModel):
    """What both classes have in common: a reranker that is loaded at the first call, once a process."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str
    instruction: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    _reranker: Reranker | None = PrivateAttr(None)

    @property
    def reranker(self) -> Reranker:
        """The loaded model."""
        if self._reranker is None:
            found = shared(self.model, **self.options)
            if not isinstance(found, Reranker):
                raise TypeError(f"{self.model} is an embedding model; use QuoitEmbeddings")
            self._reranker = found
        return self._reranker


class QuoitReranker(_Loading, BaseDocumentCompressor):
    """Keeps the documents that answer a query best, best first, with their scores in the metadata of copies.

    Attributes:
        model: folder of a rerank artifact, or a hub id.
        instruction: the task that documents are judged by; None for the artifact's own.
        options: options of `quoit.Reranker`.
        top_n: number of documents that are kept; None for all.
        score_key: key of the score, P(yes), in the metadata.
    """

    top_n: int | None = 3
    score_key: str = "relevance_score"

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents of a query."""
        del callbacks
        texts = [document.page_content for document in documents]
        ranking = self.reranker.rank(query, texts, top_k=self.top_n, instruction=self.instruction)
        return [
            documents[ranked["index"]].model_copy(
                update={"metadata": {**documents[ranked["index"]].metadata, self.score_key: ranked["score"]}}
            )
            for ranked in ranking
        ]


class QuoitCrossEncoder(_Loading, BaseCrossEncoder):
    """Scores pairs of query and document, P(yes)."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Return the scores of pairs."""
        if not text_pairs:
            return []
        scores: list[float] = self.reranker.predict(list(text_pairs), instruction=self.instruction).tolist()
        return scores
