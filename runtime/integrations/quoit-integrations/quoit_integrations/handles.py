"""Name a model by its folder and options, and load it at the first use, once a process.

The adapters of this package hold one of these.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar, get_args

from quoit import Embedder, Reranker, shared
from quoit.engine.options import Options
from quoit.engine.pooling import Vectors

PromptName = Literal["query", "document", "plain"]
"""Name of the prompt before a text: the one of `encode_query`, of `encode_document`, or of `encode`."""

Model = TypeVar("Model", bound=Embedder | Reranker)


class Handle(Generic[Model]):
    """A model that is loaded at the first use. A pickle holds its name and options, not the model.

        handle = Handle(Embedder, "models/embedding-onnx", {"precision": "int8"})
        vectors = handle.model.encode_document(["The capital of China is Beijing."])

    Attributes:
        kind: `Embedder` or `Reranker`.
        name: folder of the artifact, or a hub id.
        options: options of `kind`.
    """

    def __init__(self, kind: type[Model], model: str | Path | Model, options: Mapping[str, Any]) -> None:
        """Keep the name of a model, or a loaded model.

        Args:
            kind: the class that the model must have.
            model: folder of the artifact, a hub id, or a loaded model.
            options: options of `kind`; a loaded model has its own.

        Raises:
            TypeError: the loaded model is of the other kind, or options are given beside it.
        """
        self.kind, self.name, self.options = kind, str(model), dict(options)
        self._model: Model | None = None
        if isinstance(model, Embedder | Reranker):
            self._model = self._checked(model)
            if options:
                raise TypeError(
                    f"{', '.join(options)} given beside a loaded model; load it with them: {kind.__name__}(...)"
                )
            self.name, self.options = str(model.pipeline.artifact.folder.absolute()), _given(model.options)

    @property
    def model(self) -> Model:
        """The loaded model.

        Raises:
            TypeError: the artifact is of the other kind.
        """
        if self._model is None:
            self._model = self._checked(shared(self.name, **self.options))
        return self._model

    def __reduce__(self) -> tuple[type["Handle[Model]"], tuple[type[Model], str, dict[str, Any]]]:
        """Pickle by name and options; the copy shares the model of its process."""
        return Handle, (self.kind, self.name, self.options)

    def _checked(self, model: Embedder | Reranker) -> Model:
        if isinstance(model, self.kind):
            return model
        found, needed = "a reranker", "an embedding model"
        if self.kind is Reranker:
            found, needed = needed, found
        raise TypeError(f"{self.name} is {found}; this class takes {needed}")


class LazyEmbedder:
    """An embedding model that is loaded at its first use, with the prompt that one side of a library gives its texts.

    A deep copy is the object itself.

    Attributes:
        prompt: name of the prompt of `encode` where it is given none.
        instruction: task of the query prompt; None for the checkpoint's own.
        kept_dim: number of values that are kept of each vector; None for all.
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
            ValueError: the prompt's name is unknown.
            TypeError: options are given beside a loaded model.
        """
        if prompt not in get_args(PromptName):
            raise ValueError(f"prompt is {prompt!r}; choose one of {get_args(PromptName)}")
        self.prompt: PromptName = prompt
        self.instruction, self.kept_dim = instruction, dim
        self._handle = Handle(Embedder, model, options or {})

    @property
    def embedder(self) -> Embedder:
        """The loaded model.

        Raises:
            TypeError: the model is a reranker.
        """
        return self._handle.model

    @property
    def model(self) -> str:
        """Name of the model: folder of the artifact, or a hub id."""
        return self._handle.name

    @property
    def options(self) -> dict[str, Any]:
        """Options of `quoit.Embedder`."""
        return self._handle.options

    @property
    def dim(self) -> int:
        """Number of values of a vector."""
        return self.embedder.dim if self.kept_dim is None else self.kept_dim

    def encode(self, texts: Sequence[str], prompt: PromptName | None = None) -> Vectors:
        """Return the vectors of texts, [n, dim] float32, with the prompt of this name before each text."""
        name = prompt or self.prompt
        if name == "query":
            return self.embedder.encode_query(texts, instruction=self.instruction, dim=self.kept_dim)
        if name == "document":
            return self.embedder.encode_document(texts, dim=self.kept_dim)
        return self.embedder.encode(texts, dim=self.kept_dim)

    def with_options(self, options: Mapping[str, Any]) -> "LazyEmbedder":
        """Return a handle of the same model with other options of `quoit.Embedder`."""
        return LazyEmbedder(
            self.model, prompt=self.prompt, instruction=self.instruction, dim=self.kept_dim, options=options
        )

    def __deepcopy__(self, _: Any) -> Self:
        """Return the object itself, which nothing changes."""
        return self


def _given(options: Options) -> dict[str, Any]:
    """Return the options that differ from the defaults, as JSON can hold them."""
    defaults = Options().arguments()
    given = {name: value for name, value in options.arguments().items() if value != defaults[name]}
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
