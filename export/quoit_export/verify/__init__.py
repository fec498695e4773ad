"""Measure how close a variant is to its reference."""
