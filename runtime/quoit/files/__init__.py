"""Files of texts in, files of results out."""
