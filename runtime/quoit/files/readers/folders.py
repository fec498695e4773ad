"""List the files of a folder that contain texts, always in the same order."""

import os
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from quoit.errors import InputError, brief

IGNORE = ".gitignore"
DIRECTORY = "ps_d"
"""Group of pathspec's expressions that holds the slash behind a folder."""
DATASET = ".lance"


def files_in(folder: str, wanted: Callable[[str], bool], *, ignore: bool = False) -> list[str]:
    """Return the files below a folder, sorted by the parts of their paths.

    Files and folders whose names begin with a dot and Lance datasets are left out, and links to folders are not
    followed.

    Args:
        folder: path of the folder.
        wanted: function that says, for the path of a file, whether the file is read.
        ignore: True to leave out what `.gitignore` files in the folder and below leave out.

    Raises:
        InputError: a folder cannot be listed, or a `.gitignore` cannot be read.
    """
    return sorted(filter(wanted, _walk(folder, ignore)), key=lambda path: Path(path).parts)


def _walk(folder: str, ignore: bool) -> Iterator[str]:
    ignored = Ignored()
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        if ignore and IGNORE in files:
            ignored.add(Path(parent))
        folders[:] = [
            name
            for name in folders
            if not (name.startswith(".") or name.endswith(DATASET) or ignored.has(Path(parent, name), folder=True))
        ]
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        found = (path for path in paths if path.is_file() or path.is_symlink())
        yield from (str(path) for path in found if not ignored.has(path))


class Ignored:
    """The patterns of the `.gitignore` files that were met; of several, the one in the innermost folder decides."""

    def __init__(self) -> None:
        self._patterns: dict[Path, list[Any]] = {}

    def add(self, folder: Path) -> None:
        """Read the `.gitignore` of a folder.

        Raises:
            InputError: it cannot be read, or pathspec is not installed.
        """
        try:
            from pathspec import GitIgnoreSpec
        except ImportError as error:
            raise InputError(
                f"{folder / IGNORE} needs pathspec ({error}); `pip install 'quoit[documents]'`, or use --no-ignore"
            ) from error
        try:
            content = (folder / IGNORE).read_bytes()
        except OSError as error:
            raise InputError(
                f"{folder / IGNORE} cannot be read: {brief(error)}; correct it, or use --no-ignore"
            ) from error
        patterns: list[Any] = []
        for line in content.removeprefix(BOM_UTF8).decode(errors="replace").split("\n"):
            with suppress(ValueError):  # git passes over a wrong pattern too
                patterns += GitIgnoreSpec.from_lines([line.removesuffix("\r")]).patterns
        self._patterns[folder] = [pattern for pattern in patterns if pattern.include is not None][::-1]

    def has(self, path: Path, *, folder: bool = False) -> bool:
        """Return whether a file or folder is left out."""
        for parent in path.parents:
            name = path.relative_to(parent).as_posix() + ("/" if folder else "")
            for pattern in self._patterns.get(parent, ()):
                if _is_match(pattern, name):
                    return bool(pattern.include)
        return False


def _is_match(pattern: Any, name: str) -> bool:
    """Return whether a pattern of git means a file or folder itself, and not only a folder above it."""
    for found in pattern.regex.finditer(name):
        slash = found.start(DIRECTORY) if DIRECTORY in found.re.groupindex else -1
        if slash in (-1, len(name) - 1):
            return True
    return False


def _refuse(error: OSError) -> NoReturn:
    raise InputError(
        f"{error.filename} cannot be listed: {error.strerror}; check its permissions, or name the files"
    ) from error
