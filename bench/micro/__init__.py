"""Times of single stages, by pytest-benchmark."""
