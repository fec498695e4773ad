"""Vectors for Chroma: documents with the document prompt, queries with the query prompt."""

from typing import Any

from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
from chromadb.utils.embedding_functions import register_embedding_function

from quoit import Embedder
from quoit_integrations.handles import LazyEmbedder


@register_embedding_function
class QuoitEmbeddingFunction(EmbeddingFunction[Documents]):
    """An embedding function of a quoit artifact.

        function = QuoitEmbeddingFunction("models/embedding-onnx")
        collection = client.create_collection("notes", embedding_function=function)

    Chroma keeps the settings with a collection, and makes the function again when the collection is opened; this
    module must be imported by then. The model is loaded at the first call, once a process for equal options.
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

    def __call__(self, input: Documents) -> Embeddings:  # noqa: A002  Chroma's own name
        """Return the vectors of documents, a list of [dim] float32; Chroma refuses an empty list with ValueError."""
        return list(self.lazy.encode(input, "document"))

    def embed_query(self, input: Documents) -> Embeddings:  # noqa: A002  Chroma's own name
        """Return the vectors of queries, a list of [dim] float32."""
        return list(self.lazy.encode(input, "query"))

    def default_space(self) -> Space:
        """Return the distance of a collection that names none."""
        return "cosine"

    @staticmethod
    def name() -> str:
        """Return the name that Chroma keeps with a collection."""
        return "quoit"

    def get_config(self) -> dict[str, Any]:
        """Return the settings that Chroma keeps with a collection."""
        lazy = self.lazy
        return {
            "model": lazy.model,
            "instruction": lazy.instruction,
            "dim": lazy.kept_dim,
            "options": lazy.options,
        }

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "QuoitEmbeddingFunction":
        """Return the function of settings that Chroma kept."""
        named = {name: config[name] for name in ("model", "instruction", "dim")}
        return QuoitEmbeddingFunction(**named, **config["options"])
