"""Provide the command line of quoit."""
