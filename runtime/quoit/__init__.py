"""Qwen3 embeddings and rerankers on ONNX Runtime.

A name is imported when it is first used (PEP 562): `quoit.process` is then at work before numpy is loaded.
"""

__all__ = [
    "ArtifactError",
    "ComputeError",
    "Embedder",
    "InputError",
    "ProviderError",
    "QuoitError",
    "Reranker",
    "calibration_ranges",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quoit.embedder import Embedder
    from quoit.errors import ArtifactError, ComputeError, InputError, ProviderError, QuoitError
    from quoit.pooling import calibration_ranges
    from quoit.reranker import Reranker
else:
    HOMES = {"Embedder": "embedder", "Reranker": "reranker", "calibration_ranges": "pooling"}
    """The modules of the public names; the others are in `errors`."""

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no {name!r}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{HOMES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
