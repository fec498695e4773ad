"""Write files and folders atomically: they appear under their name complete, or not at all. Both programs use this.

A new file is written in the folder of its destination and renamed at the end. A new folder is built under a hidden name
beside its destination and takes its place by two renames. If the process is killed between the renames,
`restore_folder` repairs the result. If a destination is a symbolic link, its target is written and the link stays.
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
"""Function that makes the error to raise from its message, such as a class of `quoit.errors`."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota, and a file that may not grow further."""

SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""Pattern of the message of numpy's `tofile` on a full disk; that error has no number."""
LANCE_NUMBER = re.compile(r"\(os error (\d+)\)")
"""Pattern of the number in a message of Lance, whose errors have none of their own."""


def real_path(path: Path) -> Path:
    """Return the path that a symbolic link leads to, or the path itself; it need not exist.

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
    """Return the path `.NAME.KIND` beside the file or folder that a destination leads to, on the same disk."""
    real = real_path(destination)
    return real.with_name(f".{real.name}.{kind}")


def check_writable(destination: Path) -> None:
    """Refuse a file that cannot be written or replaced, before any work is done for it.

    Raises:
        InputError: the destination is a folder, a device or a pipe, or its folder cannot be written.
    """
    if destination.is_dir():
        raise InputError(f"{destination} is a folder; name a file")
    real = real_path(destination)
    if real.exists() and not real.is_file():
        raise InputError(f"{destination} is a device or a pipe, which a file would replace; name another file")
    _check_folder(real.parent)


def check_replaceable(destination: Path, mark: str) -> None:
    """Refuse a folder that cannot be made, or replaced by another of its kind, before any work is done for it.

    Args:
        destination: the folder.
        mark: name inside of it that every folder of its kind has.

    Raises:
        InputError: the destination is a file or a folder of another kind, or its parent cannot be written.
    """
    real = real_path(destination)
    if real.exists() and not (real.is_dir() and ((real / mark).exists() or not any(real.iterdir()))):
        raise InputError(f"{destination} exists and has no {mark} in it, so it is not replaced; name another output")
    _check_folder(real.parent)


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which no file can be made.

    Raises:
        InputError: the folder is absent, or cannot be written.
    """
    try:
        with TemporaryFile(dir=folder):  # permissions alone are not enough, above all for root
            pass
    except OSError as error:
        raise InputError(f"{folder} is no folder that can be written; make it, or name another") from error


@contextmanager
def replacing(destination: Path, needed: int | None = None, refusal: Refusal = InputError) -> Iterator[Path]:
    """Give the path of a draft beside a file; the draft takes the file's name if the context ends without an error.

    Args:
        destination: the file, or a symbolic link to it.
        needed: number of bytes of the whole file, if that is known.
        refusal: function that makes the error of a full disk.

    Raises:
        InputError: the disk is full, unless `refusal` makes another error.
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
    """Replace the system's error of a full disk by one that names the output and the bytes that it needs.

    Args:
        destination: the output, as the user named it.
        draft: the file that is being written for the output.
        needed: number of bytes of that file, or a lower bound; by default one more than the file has.
        refusal: function that makes the error.
        step: next step for the user, for the error.

    Raises:
        InputError: the disk is full, unless `refusal` makes another error.
    """
    try:
        yield
    except OSError as error:
        number = _number_of(error)
        if number is None or number not in FULL:
            raise
        written = draft.stat().st_size if draft.is_file() else 0
        free = shutil.disk_usage(draft.parent).free
        raise refusal(
            f"cannot write {destination}: {os.strerror(number)}; it needs {max(needed or 0, written + 1):,} bytes "
            f"or more, {written:,} are written and {free:,} are free in {draft.parent}; {step}"
        ) from error


def _number_of(error: OSError) -> int | None:
    """Return the number of a system's error, also where it is only in the message."""
    if error.errno is not None:
        return error.errno
    if SHORT_WRITE.fullmatch(str(error)):
        return errno.ENOSPC
    found = LANCE_NUMBER.search(str(error))
    return int(found[1]) if found else None


@contextmanager
def locked(path: Path, refusal: Refusal) -> Iterator[None]:
    """Keep other processes away from a file or folder; no lock file is left behind.

    Args:
        path: the file or folder to be written; the lock file is beside it.
        refusal: function that makes the error if the lock cannot be acquired.
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
    """Make an empty folder and remove anything with its name; the folder is removed if the context ends by an error."""
    try:
        remove(folder)
        folder.mkdir(parents=True)
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def replace_folder(new: Path, destination: Path) -> None:
    """Give a finished folder the name of another one, and remove the other one.

    Neither name is a symbolic link. If the process is killed, the name belongs to the old folder or to the new one, or
    the old folder has a hidden name, and `restore_folder` renames it back.
    """
    if destination.exists():
        remove(_replaced(destination))
        destination.rename(_replaced(destination))
    try:
        new.rename(destination)
    finally:
        restore_folder(destination)


def restore_folder(destination: Path) -> None:
    """Repair a replacement by `replace_folder` that was killed; without one, do nothing.

    If the new folder did not get its name, the old one is renamed back. If it did, the old one is removed.
    """
    replaced = _replaced(destination)
    if not replaced.exists():
        return
    if destination.is_dir() and not any(destination.iterdir()):
        destination.rmdir()  # an empty folder that was made after the kill
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
    """Return the hidden path that the old folder has until the new one has its name."""
    return destination.with_name(f".{destination.name}.old")
