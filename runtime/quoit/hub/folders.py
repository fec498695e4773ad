"""Name the folders of the cache, and write its small files."""

import os
import threading
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


def write_whole(file: Path, content: bytes) -> None:
    """Write a small file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        draft.write_bytes(content)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
