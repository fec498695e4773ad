"""Quoit beside other ways of running the same checkpoint, in turn, on the same texts."""
