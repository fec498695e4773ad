"""Name a model by its folder and options, and load it at the first use, once a process."""

from pathlib import Path
from typing import Any, Generic, TypeVar

from quoit import Embedder, Reranker, shared
from quoit.engine.options import Options

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

    def __init__(self, kind: type[Model], model: str | Model, options: dict[str, Any]) -> None:
        """Keep the name of a model, or a loaded model.

        Args:
            kind: the class that the model must have.
            model: folder of the artifact, a hub id, or a loaded model.
            options: options of `kind`; a loaded model has its own.

        Raises:
            TypeError: the loaded model is of the other kind, or options are given beside it.
        """
        self.kind, self.name, self.options = kind, str(model), options
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


def _given(options: Options) -> dict[str, Any]:
    """Return the options that differ from the defaults, as JSON can hold them."""
    defaults = Options().arguments()
    given = {name: value for name, value in options.arguments().items() if value != defaults[name]}
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
