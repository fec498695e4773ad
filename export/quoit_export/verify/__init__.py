"""How close a variant is to its reference."""
