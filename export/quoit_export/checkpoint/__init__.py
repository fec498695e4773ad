"""A checkpoint's files."""
