"""Qwen3 embeddings and rerankers on ONNX Runtime."""

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
    "calibration_ranges",
]
