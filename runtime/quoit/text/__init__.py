"""Texts to rows of token ids."""
