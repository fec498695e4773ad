"""Name the folders of the cache."""

from pathlib import Path

from quoit.machine import cache_folder


def hub_folder() -> Path:
    """Return the folder of what was fetched, which huggingface_hub keeps."""
    return cache_folder() / "hub"


def exports_folder() -> Path:
    """Return the folder of what was exported here."""
    return cache_folder() / "exports"


def names_folder() -> Path:
    """Return the folder of what names were found to be."""
    return cache_folder() / "names"
