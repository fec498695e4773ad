"""Result files out, for the command line: whole under their name, or not there.

Every file is written beside its destination and renamed at the end. Where the destination is a symbolic link, the
file that it points to is written and the link stays. This module does not know how its content came about.
"""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from quoit.engine.pooling import Vectors
from quoit.errors import InputError, QuoitError

ROWS_AT_A_TIME = 8192
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a disk is full, a quota is used up, or a file may not grow further."""


def real_file(path: Path) -> Path:
    """The file itself, where a path is a symbolic link; it need not exist.

    Raises:
        InputError: the link leads to no file, since it comes back to itself.
    """
    if not path.is_symlink():
        return path
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise InputError(f"{path} is a symbolic link that leads back to itself; name another file")
    return real


Ids = NDArray[np.int64]


@contextmanager
def replacing(destination: Path, needed: int | None = None) -> Iterator[Path]:
    """A draft beside a file, which takes the file's name when the context ends without an error.

    Args:
        destination: the file, or a symbolic link to it.
        needed: how many bytes it will have, where that is known.

    Raises:
        InputError: the disk is full.
    """
    real = real_file(destination)
    draft = real.with_name(f".{real.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with naming_a_full_disk(destination, draft, needed):
            yield draft
            draft.replace(real)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def naming_a_full_disk(destination: Path, draft: Path, needed: int | None = None) -> Iterator[None]:
    """Turns the system's error on a full disk into one that names the output and the space it needs.

    Args:
        destination: the output, as the user named it.
        draft: the file that is being written for it.
        needed: how many bytes that file will have at least; by default more than it has.

    Raises:
        InputError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        written = draft.stat().st_size if draft.is_file() else 0
        free = shutil.disk_usage(draft.parent).free
        raise InputError(
            f"cannot write {destination}: {os.strerror(error.errno)}; it needs {max(needed or 0, written + 1):,} bytes "
            f"or more, {written:,} are written and {free:,} are free in {draft.parent}; make room there"
        ) from error


@contextmanager
def locked(path: Path, refusal: Callable[[str], QuoitError]) -> Iterator[None]:
    """Keeps other processes away from a path; leaves no lock file behind.

    Args:
        path: what is to be written; the lock lies beside it.
        refusal: the error to raise, made from the reason.
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


def check_destination(destination: Path, suffixes: Sequence[str]) -> None:
    """Refuses a file that cannot be written, before any work is done for it.

    Raises:
        InputError: its suffix is not among `suffixes` or needs what is not installed, it is a folder or a device, or
            it lies in no folder that can be written.
    """
    if destination.suffix not in suffixes:
        raise InputError(
            f"{destination} has the unknown suffix {destination.suffix!r}; end it in one of {', '.join(suffixes)}"
        )
    if destination.suffix == ".parquet":
        pyarrow_parquet()
    if destination.is_dir():
        raise InputError(f"{destination} is a folder; name a file")
    real = real_file(destination)
    if real.exists() and not real.is_file():
        raise InputError(f"{destination} is a device or a pipe, which a file would replace; name another file")
    try:
        with TemporaryFile(dir=real.parent):  # permissions alone do not tell, for root above all
            pass
    except OSError as error:
        raise InputError(f"{real.parent} is no folder that can be written; make it, or name another") from error


def write_records(destination: Path, records: Sequence[Mapping[str, object]], columns: Mapping[str, type]) -> None:
    """Writes objects with the same keys as `.jsonl`, one a line, or as the columns of a `.parquet` file.

    Args:
        destination: the file.
        records: the objects; where there are none, a parquet file has the columns all the same.
        columns: their keys, and whether each has int, float or str.
    """
    check_destination(destination, RECORD_SUFFIXES)
    if destination.suffix == ".jsonl":
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        with replacing(destination, len(lines)) as draft:
            draft.write_bytes(lines)
        return
    parquet = pyarrow_parquet()
    import pyarrow

    types = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    schema = pyarrow.schema({name: types[kind] for name, kind in columns.items()})
    with replacing(destination) as draft:
        parquet.write_table(pyarrow.Table.from_pylist([dict(record) for record in records], schema), draft)


def _write_jsonl(path: Path, vectors: Vectors, ids: Ids) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row, vector in zip(ids, vectors, strict=True):
            file.write(json.dumps({"id": int(row), "vector": vector.tolist()}) + "\n")


def _write_parquet(path: Path, vectors: Vectors, ids: Ids) -> None:
    parquet = pyarrow_parquet()
    import pyarrow

    kind = pyarrow.list_(pyarrow.from_numpy_dtype(vectors.dtype), vectors.shape[1])
    schema = pyarrow.schema({"id": pyarrow.int64(), "vector": kind})
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(vectors), ROWS_AT_A_TIME):
            some = np.ascontiguousarray(vectors[start : start + ROWS_AT_A_TIME])
            values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(some.ravel()), vectors.shape[1])
            rows = pyarrow.array(ids[start : start + len(some)], pyarrow.int64())
            writer.write_table(pyarrow.Table.from_arrays([rows, values], schema=schema))


def pyarrow_parquet() -> Any:
    """The module pyarrow.parquet.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"parquet needs pyarrow ({error}); `pip install 'quoit[parquet]'`, or use another format"
        ) from error
    return parquet


VECTOR_WRITERS: dict[str, Callable[[Path, Vectors, Ids], None]] = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
RECORD_SUFFIXES = (".jsonl", ".parquet")
