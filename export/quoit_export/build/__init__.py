"""Variants, written and measured."""
