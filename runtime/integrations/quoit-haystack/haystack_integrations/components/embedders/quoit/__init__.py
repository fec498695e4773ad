"""Qwen3 embeddings on ONNX Runtime for Haystack."""

from haystack_integrations.components.embedders.quoit.embedders import QuoitDocumentEmbedder, QuoitTextEmbedder

__all__ = ["QuoitDocumentEmbedder", "QuoitTextEmbedder"]
