"""Embedders for Haystack: one for queries, one for documents; both share one loaded model."""

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_to_dict

from quoit import Embedder, shared


def load(model: str, options: dict[str, Any] | None) -> Embedder:
    """Return the loaded model.

    Raises:
        TypeError: it is a reranker.
    """
    found = shared(model, **(options or {}))
    if not isinstance(found, Embedder):
        raise TypeError(f"{model} is a reranker; use QuoitRanker")
    return found


@component
class QuoitTextEmbedder:
    """Embeds a query, with the query prompt.

    embedder = QuoitTextEmbedder("models/embedding-onnx")
    vector = embedder.run("What is the capital of China?")["embedding"]
    """

    def __init__(
        self,
        model: str,
        *,
        instruction: str | None = None,
        dim: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Set it up; the model is loaded by `warm_up`, or at the first run.

        Args:
            model: folder of the artifact, or a hub id.
            instruction: task of the query prompt, instead of the checkpoint's prompt.
            dim: number of values that are kept of each vector; None for all.
            options: options of `quoit.Embedder`, such as `{"precision": "int8", "threads": 2}`.
        """
        self.model, self.instruction, self.dim, self.options = model, instruction, dim, options
        self._embedder: Embedder | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what a pipeline's file says of it."""
        found: dict[str, Any] = default_to_dict(
            self, model=self.model, instruction=self.instruction, dim=self.dim, options=self.options
        )
        return found

    def warm_up(self) -> None:
        """Load the model, if that has not been done."""
        if self._embedder is None:
            self._embedder = load(self.model, self.options)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """Return the vector of a query."""
        if not isinstance(text, str):
            raise TypeError(
                "QuoitTextEmbedder expects a string. In case you want to embed a list of documents, please use the "
                "QuoitDocumentEmbedder."
            )
        self.warm_up()
        assert self._embedder is not None
        return {"embedding": self._embedder.encode_query(text, instruction=self.instruction, dim=self.dim).tolist()}


@component
class QuoitDocumentEmbedder:
    """Embeds documents, with the document prompt; returns copies that have vectors.

    A document without content is embedded as an empty text, with its metadata if some is chosen.
    """

    def __init__(
        self,
        model: str,
        *,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        dim: int | None = None,
        options: dict[str, Any] | None = None,
        progress_bar: bool = False,
    ) -> None:
        """Set it up; the model is loaded by `warm_up`, or at the first run.

        Args:
            model: folder of the artifact, or a hub id.
            meta_fields_to_embed: names of metadata that stand before the content.
            embedding_separator: text between them.
            dim: number of values that are kept of each vector; None for all.
            options: options of `quoit.Embedder`, such as `{"precision": "int8", "threads": 2}`.
            progress_bar: draw a progress bar.
        """
        self.model, self.dim, self.options = model, dim, options
        self.meta_fields_to_embed, self.embedding_separator = meta_fields_to_embed or [], embedding_separator
        self.progress_bar = progress_bar
        self._embedder: Embedder | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what a pipeline's file says of it."""
        found: dict[str, Any] = default_to_dict(
            self,
            model=self.model,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            dim=self.dim,
            options=self.options,
            progress_bar=self.progress_bar,
        )
        return found

    def warm_up(self) -> None:
        """Load the model, if that has not been done."""
        if self._embedder is None:
            self._embedder = load(self.model, self.options)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Return the documents with their vectors."""
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise TypeError(
                "QuoitDocumentEmbedder expects a list of Documents. In case you want to embed a string, please use the "
                "QuoitTextEmbedder."
            )
        self.warm_up()
        assert self._embedder is not None
        texts = [self._text(document) for document in documents]
        vectors = self._embedder.encode_document(texts, dim=self.dim, show_progress=self.progress_bar).tolist()
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}

    def _text(self, document: Document) -> str:
        fields = [str(document.meta[name]) for name in self.meta_fields_to_embed if document.meta.get(name) is not None]
        return self.embedding_separator.join([*fields, document.content or ""])
