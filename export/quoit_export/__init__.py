"""Export Qwen3-Embedding and Qwen3-Reranker checkpoints to the artifacts that `quoit` runs."""
