"""An embedder and a retriever for DSPy.

DSPy's cache on disk tells callables apart by their source code, so two models, or two prompts, would share their cached
vectors. These classes use no cache of DSPy.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
from dspy.retrievers.embeddings import EmbeddingsWithScores

from quoit import Embedder
from quoit.engine.pooling import Vectors
from quoit_integrations.handles import LazyEmbedder, PromptName


class QuoitEmbedder(dspy.Embedder):
    """A `dspy.Embedder` whose vectors are quoit's; all texts of a call get the prompt that `prompt` names.

    embedder = QuoitEmbedder("models/embedding-onnx", prompt="query")
    """

    def __init__(
        self,
        model: str | Path | Embedder,
        *,
        prompt: PromptName = "document",
        instruction: str | None = None,
        dim: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the model, which is loaded at its first use; the arguments are those of `LazyEmbedder`."""
        self.lazy = LazyEmbedder(model, prompt=prompt, instruction=instruction, dim=dim, options=options)
        super().__init__(self.lazy.encode, caching=False)

    def __call__(self, inputs: str | list[str], *_: Any, **__: Any) -> Vectors:
        """Return the vectors of texts, [n, dim] float32, or [dim] for one string; DSPy's options have no effect."""
        return self.lazy.encode(inputs)

    async def acall(self, inputs: str | list[str], *_: Any, **__: Any) -> Vectors:
        """Return vectors as a call does, computed in a thread."""
        return await asyncio.to_thread(self.lazy.encode, inputs)


class QuoitRetriever(EmbeddingsWithScores):
    """DSPy's retriever over a list of texts: these get the document prompt, and questions the query prompt.

    retriever = QuoitRetriever(texts, "models/embedding-onnx", k=3)

    Saved ones are read by `QuoitRetriever.from_saved(folder, QuoitEmbedder(model, prompt="query"))`.
    """

    def __init__(
        self,
        corpus: list[str],
        model: str | Path | Embedder,
        *,
        k: int = 5,
        instruction: str | None = None,
        dim: int | None = None,
        options: Mapping[str, Any] | None = None,
        **search: Any,
    ) -> None:
        """Embed a corpus.

        Args:
            corpus: the texts that are searched.
            model: as in `LazyEmbedder`, as are `instruction`, `dim` and `options`.
            k: number of texts that are found.
            instruction: task of the query prompt.
            dim: number of values that are kept of each vector.
            options: options of `quoit.Embedder`.
            **search: further arguments of `dspy.retrievers.Embeddings`.
        """
        queries = QuoitEmbedder(model, prompt="query", instruction=instruction, dim=dim, options=options)
        documents = QuoitEmbedder(model, prompt="document", dim=dim, options=options)
        super().__init__(corpus, documents, k=k, normalize=False, **search)
        self.embedder = queries
