"""How tensors are stored in each precision."""
