"""Read files of texts, and write files of results."""
