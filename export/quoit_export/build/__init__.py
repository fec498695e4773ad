"""Write and measure the variants of an artifact."""
