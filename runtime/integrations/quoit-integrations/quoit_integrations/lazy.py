"""An embedding model that is loaded at its first use and pickled by its path; the adapters of this package hold one."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

from quoit import Embedder, shared
from quoit.engine.pooling import Vectors

PromptName = Literal["query", "document", "plain"]
"""Name of the prompt before a text: the one of `encode_query`, of `encode_document`, or of `encode`."""


class LazyEmbedder:
    """A handle of an embedding model.

    Handles of equal models and options in one process share the loaded model. Pickles hold the path and the options
    alone; a deep copy is the handle itself.
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
        """Keep what the model is loaded with; nothing is loaded yet.

        Args:
            model: folder of the artifact, a hub id, or a loaded model.
            prompt: name of the prompt of `encode` where it is given none.
            instruction: task of the query prompt, instead of the checkpoint's prompt.
            dim: number of values that are kept of each vector; None for all.
            options: options of `quoit.Embedder`, such as `{"precision": "int8", "threads": 2}`.

        Raises:
            ValueError: the prompt's name is unknown, or options are given beside a loaded model.
        """
        if prompt not in get_args(PromptName):
            raise ValueError(f"prompt is {prompt!r}; choose one of {get_args(PromptName)}")
        if options and not isinstance(model, str | Path):
            raise ValueError(f"options {dict(options)} have no effect on a loaded model; give them where it is loaded")
        self.model, self.prompt, self.instruction, self._dim = model, prompt, instruction, dim
        self.options = dict(options or {})

    @cached_property
    def embedder(self) -> Embedder:
        """The loaded model.

        Raises:
            TypeError: the model is a reranker.
            Others: as `quoit.Embedder` does.
        """
        found = shared(self.model, **self.options) if isinstance(self.model, str | Path) else self.model
        if not isinstance(found, Embedder):
            raise TypeError(f"{self.model} is a reranker, and vectors need an embedding model")
        return found

    @property
    def dim(self) -> int:
        """Number of values of a vector."""
        return self.embedder.dim if self._dim is None else self._dim

    def encode(self, texts: Sequence[str], prompt: PromptName | None = None) -> Vectors:
        """Return the vectors of texts, [n, dim] float32, with the prompt of this name before each text."""
        name = prompt or self.prompt
        if name == "query":
            return self.embedder.encode_query(texts, instruction=self.instruction, dim=self._dim)
        if name == "document":
            return self.embedder.encode_document(texts, dim=self._dim)
        return self.embedder.encode(texts, dim=self._dim)

    def __getstate__(self) -> dict[str, Any]:
        """Return the path and the options, so that a copy loads the model at its own first use."""
        state = {name: value for name, value in vars(self).items() if name != "embedder"}
        if isinstance(self.model, Embedder):
            state |= {
                "model": self.model.pipeline.artifact.folder.absolute(),
                "options": self.model.options.arguments(),
            }
        return state

    def __deepcopy__(self, _: Any) -> Self:
        """Return the handle itself, which nothing changes."""
        return self
