"""Texts and token ids that benchmarks and training read: the same for every system."""
