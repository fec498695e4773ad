"""Exports Qwen3-Embedding checkpoints to the artifacts that `quoit` runs."""
