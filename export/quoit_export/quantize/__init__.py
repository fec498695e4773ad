"""How int8, int4 and fp16 weights are prepared."""
