"""Qwen3 embeddings and rerankers on ONNX Runtime.

A name is imported when it is first used (PEP 562). So `quoit.cli.process` can guard a command before numpy is loaded.
"""

__all__ = [
    "ArtifactError",
    "AsyncEmbedder",
    "AsyncReranker",
    "ComputeError",
    "DeadlineError",
    "Embedder",
    "InputError",
    "OverloadedError",
    "ProviderError",
    "QuoitError",
    "Reranker",
    "Waiting",
    "__version__",
    "calibration_ranges",
    "shared",
]

TYPE_CHECKING = False  # like `typing.TYPE_CHECKING`, without the slow import of `typing`
if TYPE_CHECKING:
    from quoit.aio import AsyncEmbedder, AsyncReranker, Waiting
    from quoit.embedder import Embedder
    from quoit.engine.pooling import calibration_ranges
    from quoit.errors import (
        ArtifactError,
        ComputeError,
        DeadlineError,
        InputError,
        OverloadedError,
        ProviderError,
        QuoitError,
    )
    from quoit.reranker import Reranker
    from quoit.sharing import shared

    __version__: str
else:
    MODULES = {
        "AsyncEmbedder": "aio",
        "AsyncReranker": "aio",
        "Embedder": "embedder",
        "Reranker": "reranker",
        "Waiting": "aio",
        "calibration_ranges": "engine.pooling",
        "shared": "sharing",
    }
    """Modules of the public names; names that are not listed are in `errors`."""

    def __getattr__(name: str) -> object:
        """Return a public name, the version of the installed distribution, or a module such as `quoit.errors`."""
        from importlib import import_module

        if name == "__version__":
            return installed_version()
        if name not in __all__:
            if is_module(name):
                return import_module(f"quoit.{name}")
            raise AttributeError(f"quoit has no {name!r}; it has {', '.join(__all__)}")
        value = getattr(import_module(f"quoit.{MODULES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value

    def installed_version() -> str:
        """Return the version of the installed distribution; sources that are not installed have none."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("quoit")
        except PackageNotFoundError as error:
            raise AttributeError("quoit is not installed, and has no version; `pip install` it") from error

    def is_module(name: str) -> bool:
        """Return whether quoit has a public module with this name."""
        from importlib.util import find_spec

        return name.isidentifier() and not name.startswith("_") and find_spec(f"quoit.{name}") is not None

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
