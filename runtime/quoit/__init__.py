"""Qwen3 embeddings on ONNX Runtime."""

from quoit.embedder import Embedder
from quoit.errors import ArtifactError, ComputeError, InputError, ProviderError, QuoitError
from quoit.pooling import calibration_ranges

__all__ = [
    "ArtifactError",
    "ComputeError",
    "Embedder",
    "InputError",
    "ProviderError",
    "QuoitError",
    "calibration_ranges",
]
