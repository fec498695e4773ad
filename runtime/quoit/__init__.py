"""Qwen3 embeddings and rerankers on ONNX Runtime."""

from typing import TYPE_CHECKING

from quoit.embedder import Embedder
from quoit.errors import ArtifactError, ComputeError, InputError, ProviderError, QuoitError
from quoit.pooling import calibration_ranges
from quoit.reranker import Reranker

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

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """The version, looked up among the installed distributions when it is first asked for."""
        if name != "__version__":
            raise AttributeError(f"quoit has no {name!r}; it has {', '.join(__all__)}")
        from importlib.metadata import version

        return version("quoit")
