"""The commands of `quoit`, each with its arguments and what it does."""
