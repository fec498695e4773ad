"""Define what an embedder and a reranker have in common: a pipeline, and the options that it was opened with."""

from functools import partial
from pathlib import Path
from typing import Self

from quoit.artifact import ProviderName
from quoit.engine.options import Options
from quoit.engine.pipeline import Pipeline


class LoadedModel:
    """A loaded artifact. `Embedder` and `Reranker` inherit its methods.

    Attributes:
        options: the options as the caller gave them.
        pipeline: tokenizer, session and batching.
    """

    options: Options
    pipeline: Pipeline

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens of a text or pair, including those that surround it; longer ones are cut."""
        return self.pipeline.tokenizer.max_tokens

    @property
    def max_seq_length(self) -> int:
        """Return `max_tokens`, by the name that sentence-transformers gives to it."""
        return self.max_tokens

    @property
    def device(self) -> ProviderName:
        """Return the provider that runs the model: `cpu` or `cuda`."""
        return self.pipeline.session.choice.provider

    def close(self) -> None:
        """Release the model's memory; later calls are refused. A `with` block does so at its end."""
        self.pipeline.close()

    def __enter__(self) -> Self:
        """Return the model itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the model's memory."""
        self.close()

    def __repr__(self) -> str:
        """Return the model's name, its folder, precision and provider."""
        return f"<quoit.{type(self).__name__} {self.pipeline.describe()}>"

    def __copy__(self) -> Self:
        """Return a copy that shares the loaded model."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce__(self) -> tuple[partial[Self], tuple[Path]]:
        """Pickle by path and options; the copy loads the artifact again."""
        return partial(type(self), **self.options.arguments()), (self.pipeline.artifact.folder.absolute(),)
