"""Qwen3 rerankers on ONNX Runtime for Haystack."""

from haystack_integrations.components.rankers.quoit.ranker import QuoitRanker

__all__ = ["QuoitRanker"]
