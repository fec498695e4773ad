"""Qwen3 rerankers on ONNX Runtime for LlamaIndex."""

from llama_index.postprocessor.quoit_rerank.base import QuoitRerank

__all__ = ["QuoitRerank"]
