"""List the files of a folder that contain texts, always in the same order."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from quoit.errors import InputError


def files_in(folder: str, wanted: Callable[[str], bool]) -> list[str]:
    """Return the files below a folder, sorted by the parts of their paths.

    Files and folders whose names begin with a dot are left out, and links to folders are not followed.

    Args:
        folder: path of the folder.
        wanted: function that says, for the path of a file, whether the file is read.

    Raises:
        InputError: a folder cannot be listed.
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
