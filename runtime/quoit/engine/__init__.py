"""Rows of token ids to answers."""
