"""Files and folders that appear under their name whole, or not at all; both programs write by these functions.

A new file is written in the folder of its destination and renamed at the end. A new folder grows under a hidden name
beside its destination and takes its place by two renames; `restore_folder` repairs what a kill between them leaves.
Where a destination is a symbolic link, the file or folder that it points to is written and the link stays. This module
does not know what is written.
"""

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, Timeout

from quoit.errors import InputError, QuoitError

Refusal = Callable[[str], QuoitError]
"""Makes the error to raise from its message; a class of `quoit.errors` does."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, a used-up quota, and a file that may not grow further."""

SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""The message of numpy's `tofile` on a full disk; that error has no number."""


def real_path(path: Path) -> Path:
    """The path that a symbolic link leads to, or the path itself; it need not exist.

    Raises:
        InputError: the link leads back to itself.
    """
    if not path.is_symlink():
        return path
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise InputError(f"{path} is a symbolic link that leads back to itself; name another output")
    return real


def hidden_path(destination: Path, kind: str) -> Path:
    """The path `.NAME.KIND` beside the file or folder that a destination leads to, so on the same disk."""
    real = real_path(destination)
    return real.with_name(f".{real.name}.{kind}")


def check_writable(destination: Path) -> None:
    """Refuse a file that cannot be written or replaced, before any work is done for it.

    Raises:
        InputError: it is a folder, a device or a pipe, or its folder cannot be written.
    """
    if destination.is_dir():
        raise InputError(f"{destination} is a folder; name a file")
    real = real_path(destination)
    if real.exists() and not real.is_file():
        raise InputError(f"{destination} is a device or a pipe, which a file would replace; name another file")
    try:
        with TemporaryFile(dir=real.parent):  # permissions alone do not tell, for root above all
            pass
    except OSError as error:
        raise InputError(f"{real.parent} is no folder that can be written; make it, or name another") from error


@contextmanager
def replacing(destination: Path, needed: int | None = None, refusal: Refusal = InputError) -> Iterator[Path]:
    """A draft beside a file, which takes the file's name when the context ends without an error.

    Args:
        destination: the file, or a symbolic link to it.
        needed: bytes of the whole file, where that is known.
        refusal: makes the error of a full disk.

    Raises:
        InputError: a full disk, unless `refusal` makes another error.
    """
    draft = hidden_path(destination, f"{os.getpid()}-{threading.get_ident()}.part")
    try:
        with explain_full_disk(destination, draft, needed, refusal=refusal):
            yield draft
            draft.replace(real_path(destination))
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def explain_full_disk(
    destination: Path,
    draft: Path,
    needed: int | None = None,
    *,
    refusal: Refusal = InputError,
    step: str = "make room there",
) -> Iterator[None]:
    """Replace the system's error of a full disk by one that names the output and the bytes it needs.

    Args:
        destination: the output, as the user named it.
        draft: the file that is being written for it.
        needed: bytes of that file, or a lower bound of them; by default one more than it has.
        refusal: makes the error.
        step: what the user should do.

    Raises:
        InputError: a full disk, unless `refusal` makes another error.
    """
    try:
        yield
    except OSError as error:
        number = errno.ENOSPC if SHORT_WRITE.fullmatch(str(error)) else error.errno
        if number not in FULL:
            raise
        written = draft.stat().st_size if draft.is_file() else 0
        free = shutil.disk_usage(draft.parent).free
        raise refusal(
            f"cannot write {destination}: {os.strerror(number)}; it needs {max(needed or 0, written + 1):,} bytes "
            f"or more, {written:,} are written and {free:,} are free in {draft.parent}; {step}"
        ) from error


@contextmanager
def locked(path: Path, refusal: Refusal) -> Iterator[None]:
    """Keep other processes away from a file or folder; no lock file is left behind.

    Args:
        path: the file or folder to be written; the lock file lies beside it.
        refusal: makes the error of a lock that cannot be had.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise refusal(f"another process is writing {path}; wait for it, or name another") from error
    except OSError as error:
        raise refusal(f"cannot write beside {path}: {error}; name a folder you may write to") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """An empty folder in place of whatever has its name; removed when the context ends by an error."""
    try:
        remove(folder)
        folder.mkdir(parents=True)
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def replace_folder(new: Path, destination: Path) -> None:
    """Give a finished folder the name of another one, which is then removed.

    Neither name is a symbolic link. A kill leaves the old folder or the new one under the name, or the old one under
    a hidden name, from where `restore_folder` brings it back.
    """
    if destination.exists():
        remove(_replaced(destination))
        destination.rename(_replaced(destination))
    try:
        new.rename(destination)
    finally:
        restore_folder(destination)


def restore_folder(destination: Path) -> None:
    """Repair a replacement by `replace_folder` that was killed; where there was none, nothing is done.

    Before the new folder has its name, the old one comes back. After that, the old one is removed.
    """
    replaced = _replaced(destination)
    if not replaced.exists():
        return
    if destination.is_dir() and not any(destination.iterdir()):
        destination.rmdir()  # whoever made it anew since then put nothing into it
    if destination.exists():
        remove(replaced)
    else:
        replaced.rename(destination)


def remove(path: Path) -> None:
    """Remove a file, a symbolic link or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replaced(destination: Path) -> Path:
    """Where the old folder waits until the new one has its name."""
    return destination.with_name(f".{destination.name}.old")
