"""Prepare weights for int8, int4 and fp16."""
