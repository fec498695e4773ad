"""Qwen3 embeddings on ONNX Runtime for LlamaIndex."""

from llama_index.embeddings.quoit.base import QuoitEmbedding

__all__ = ["QuoitEmbedding"]
