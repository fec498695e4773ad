"""A provider for Daft's `embed_text`: texts get the document prompt, or the one `prompt` names; null stays null."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from daft import DataType
from daft.ai.protocols import TextEmbedder, TextEmbedderDescriptor
from daft.ai.provider import Provider
from daft.ai.typing import EmbeddingDimensions, UDFOptions

from quoit import Embedder
from quoit_integrations.handles import LazyEmbedder, PromptName


@dataclass(frozen=True)
class QuoitTextEmbedder(TextEmbedder):
    """Embeds the texts of a column."""

    lazy: LazyEmbedder

    def embed_text(self, text: list[str | None]) -> list[np.ndarray | None]:
        """Return the vector of each text, [dim] float32, and None for None."""
        vectors = iter(self.lazy.encode([each for each in text if each is not None]))
        return [None if each is None else next(vectors) for each in text]


@dataclass(frozen=True)
class QuoitDescriptor(TextEmbedderDescriptor):
    """What Daft sends to its workers: the handle of the model, and the options of Daft's own."""

    lazy: LazyEmbedder
    udf_options: dict[str, Any] = field(default_factory=dict)

    def get_provider(self) -> str:
        """Return the provider's name."""
        return "quoit"

    def get_model(self) -> str:
        """Return the model's path."""
        return str(self.lazy.model)

    def get_options(self) -> dict[str, Any]:
        """Return the options of `quoit.Embedder`."""
        return self.lazy.options

    def get_dimensions(self) -> EmbeddingDimensions:
        """Return the type of the vectors; the model is loaded for it, unless the number of values was given."""
        return EmbeddingDimensions(size=self.lazy.dim, dtype=DataType.float32())

    def get_udf_options(self) -> UDFOptions:
        """Return how Daft calls the model; nothing is tried again, since the same text fails the same way."""
        return UDFOptions(**{"max_retries": 0} | self.udf_options)

    def instantiate(self) -> TextEmbedder:
        """Return what embeds the texts."""
        return QuoitTextEmbedder(self.lazy)


class QuoitProvider(Provider):
    """A provider of quoit's vectors.

    frame.with_column("vector", embed_text(frame["text"], provider=QuoitProvider("models/embedding-onnx")))
    """

    def __init__(
        self,
        model: str | Path | Embedder | None = None,
        *,
        prompt: PromptName = "document",
        instruction: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the model, which is loaded at its first use; the arguments are those of `LazyEmbedder`."""
        self.model, self.options = model, options
        self.prompt: dict[str, Any] = {"prompt": prompt, "instruction": instruction}

    @property
    def name(self) -> str:
        """Name of the provider."""
        return "quoit"

    def get_text_embedder(
        self, model: str | None = None, dimensions: int | None = None, **options: Any
    ) -> TextEmbedderDescriptor:
        """Return the descriptor of a call of `embed_text`.

        Args:
            model: the model, instead of the provider's.
            dimensions: number of values that are kept of each vector; None for all.
            **options: `prompt` and `instruction`, instead of the provider's; Daft's own, such as `batch_size`.

        Raises:
            TypeError: an option is unknown.
            ValueError: there is no model.
        """
        found = model or self.model
        if found is None:
            raise ValueError('no model; give it to QuoitProvider("models/embedding-onnx"), or to embed_text by model=')
        prompt = {name: options.pop(name, value) for name, value in self.prompt.items()}
        if unknown := sorted(set(options) - {each.name for each in fields(UDFOptions)}):
            raise TypeError(f"embed_text has no option {', '.join(unknown)}; QuoitProvider(options=) takes quoit's own")
        return QuoitDescriptor(LazyEmbedder(found, dim=dimensions, options=self.options, **prompt), options)
