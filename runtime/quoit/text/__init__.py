"""Turn texts into rows of token ids."""
