"""The files of a folder that hold texts, in an order that is always the same."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from quoit.errors import InputError


def files_in(folder: str, wanted: Callable[[str], bool]) -> list[str]:
    """The files below a folder, sorted by the names on their paths.

    Files and folders whose names begin with a dot are left out, and links to folders are not followed.

    Args:
        folder: its path.
        wanted: whether a file, by its path, is read.

    Raises:
        InputError: a folder below cannot be listed.
    """
    return sorted(filter(wanted, _walk(folder)), key=lambda path: Path(path).parts)


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        yield from (str(path) for path in paths if path.is_file() or path.is_symlink())


def _refuse(error: OSError) -> NoReturn:
    raise InputError(
        f"{error.filename} cannot be listed: {error.strerror}; check its permissions, or name the files"
    ) from error
