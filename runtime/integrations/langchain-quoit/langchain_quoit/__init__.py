"""Qwen3 embeddings and rerankers on ONNX Runtime for LangChain."""

from langchain_quoit.embeddings import QuoitEmbeddings
from langchain_quoit.rerankers import QuoitCrossEncoder, QuoitReranker

__all__ = ["QuoitCrossEncoder", "QuoitEmbeddings", "QuoitReranker"]
