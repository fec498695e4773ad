"""quoit measured, beside others: `python -m bench` from the repository's root. See README.md here."""
