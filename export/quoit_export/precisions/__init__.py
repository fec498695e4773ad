"""Store a model's tensors in each precision."""
