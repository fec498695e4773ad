"""Vectors for txtai: what is searched for gets the query prompt, what is indexed the document prompt."""

from typing import Any

from txtai.vectors import Vectors

from quoit.engine.pooling import Vectors as Array
from quoit_integrations.handles import LazyEmbedder

METHOD = "quoit_integrations.txtai.QuoitVectors"
"""Path of the class, which the configuration of an index names."""


class QuoitVectors(Vectors):
    """Vectors of a quoit artifact, named in the configuration of an index by this class' path.

        Embeddings(method=METHOD, path="models/embedding-onnx", content=True)

    The model is loaded at the first text. `path` is the artifact's folder or a hub id, `vectors` has the options of
    `quoit.Embedder`, `dimensionality` is the number of values that are kept. Where txtai's `instructions` has a prefix
    for a side, it stands in the place of that side's prompt.
    """

    def loadmodel(self, path: str) -> LazyEmbedder:
        """Return a handle of the model."""
        return LazyEmbedder(path, dim=self.config.get("dimensionality"), options=self.config.get("vectors"))

    def encode(self, data: list[str], category: str | None = None) -> Array:
        """Return the vectors of texts, [n, dim] float32; "data" is what is indexed, all else a query."""
        lazy: LazyEmbedder = self.model
        side = category or "query"
        if self.instructions and side in self.instructions:
            return lazy.embedder.encode(data, prompt="", dim=self.dimensionality)
        return lazy.encode(data, "document" if side == "data" else "query")

    def normalize(self, embeddings: Any) -> Any:
        """Return vectors as they are: of unit length."""
        return embeddings
