"""Turn rows of token ids into answers."""
