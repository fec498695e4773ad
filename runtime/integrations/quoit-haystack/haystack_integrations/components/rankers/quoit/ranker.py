"""A ranker for Haystack."""

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_to_dict

from quoit import Reranker, shared


@component
class QuoitRanker:
    """Orders documents by how well they answer a query; returns copies with P(yes) as their scores.

    ranker = QuoitRanker("models/reranker-onnx")
    best = ranker.run("What is the capital of China?", documents, top_k=3)["documents"]
    """

    def __init__(
        self,
        model: str,
        *,
        top_k: int = 10,
        instruction: str | None = None,
        meta_fields_to_embed: list[str] | None = None,
        meta_data_separator: str = "\n",
        score_threshold: float | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Set it up; the model is loaded by `warm_up`, or at the first run.

        Args:
            model: folder of a rerank artifact, or a hub id.
            top_k: number of documents that are kept.
            instruction: the task that documents are judged by; None for the artifact's own.
            meta_fields_to_embed: names of metadata that stand before the content.
            meta_data_separator: text between them.
            score_threshold: least score of documents that are kept; None for none.
            options: options of `quoit.Reranker`.

        Raises:
            ValueError: `top_k` is below 1.
        """
        _check(top_k)
        self.model, self.top_k, self.instruction, self.options = model, top_k, instruction, options
        self.meta_fields_to_embed, self.meta_data_separator = meta_fields_to_embed or [], meta_data_separator
        self.score_threshold = score_threshold
        self._reranker: Reranker | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what a pipeline's file says of it."""
        found: dict[str, Any] = default_to_dict(
            self,
            model=self.model,
            top_k=self.top_k,
            instruction=self.instruction,
            meta_fields_to_embed=self.meta_fields_to_embed,
            meta_data_separator=self.meta_data_separator,
            score_threshold=self.score_threshold,
            options=self.options,
        )
        return found

    def warm_up(self) -> None:
        """Load the model, if that has not been done."""
        if self._reranker is None:
            found = shared(self.model, **(self.options or {}))
            if not isinstance(found, Reranker):
                raise TypeError(f"{self.model} is an embedding model; use QuoitTextEmbedder")
            self._reranker = found

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """Return the best documents, best first."""
        most = self.top_k if top_k is None else top_k
        _check(most)
        if not documents:
            return {"documents": []}
        if not query:
            raise ValueError("query is empty; pass the question that documents are ranked by")
        self.warm_up()
        assert self._reranker is not None
        texts = [self._text(document) for document in documents]
        ranking = self._reranker.rank(query, texts, top_k=most, instruction=self.instruction)
        least = self.score_threshold
        kept = [ranked for ranked in ranking if least is None or ranked["score"] >= least]
        return {"documents": [replace(documents[ranked["index"]], score=ranked["score"]) for ranked in kept]}

    def _text(self, document: Document) -> str:
        fields = [str(document.meta[name]) for name in self.meta_fields_to_embed if document.meta.get(name) is not None]
        return self.meta_data_separator.join([*fields, document.content or ""])


def _check(top_k: int) -> None:
    if top_k <= 0:
        raise ValueError(f"top_k is {top_k}; use 1 or more")
