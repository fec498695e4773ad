"""Qwen3 embeddings and rerankers on ONNX Runtime.

A name is imported when it is first used (PEP 562): `quoit.process` then guards a command before numpy is loaded.
"""

__all__ = [
    "ArtifactError",
    "ComputeError",
    "Embedder",
    "InputError",
    "ProviderError",
    "QuoitError",
    "Reranker",
    "__version__",
    "calibration_ranges",
]

TYPE_CHECKING = False  # as in `typing`, whose import takes its time
if TYPE_CHECKING:
    from quoit.embedder import Embedder
    from quoit.errors import ArtifactError, ComputeError, InputError, ProviderError, QuoitError
    from quoit.pooling import calibration_ranges
    from quoit.reranker import Reranker

    __version__: str
else:
    MODULES = {"Embedder": "embedder", "Reranker": "reranker", "calibration_ranges": "pooling"}
    """The modules of the public names; the others are in `errors`."""

    def __getattr__(name: str) -> object:
        """A public name, or the version, looked up among the installed distributions."""
        if name not in __all__:
            raise AttributeError(f"quoit has no {name!r}; it has {', '.join(__all__)}")
        if name == "__version__":
            from importlib.metadata import version

            return version("quoit")
        from importlib import import_module

        value = getattr(import_module(f"quoit.{MODULES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
