"""The vectors of a bulk run while it lasts: in a hidden folder beside the output, so that the run can go on later.

    .OUT.partial/rows.npy        the vectors so far
    .OUT.partial/progress.json   how many of them count, and which texts and which job they belong to

Rows are on disk before progress.json counts them, so a process that is killed at any moment leaves a draft that
another can take up. The output appears under its name in one step, at the end. This module does not know how
texts become vectors.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import msgspec
import numpy as np

from quoit.errors import InputError, brief
from quoit.pooling import Vectors
from quoit.prompts import check_text
from quoit.tokens import Truncation
from quoit.writers import VECTOR_WRITERS, check_destination, locked, replacing

NPY = ".npy"
SUFFIXES = (NPY, *VECTOR_WRITERS)
ROWS = "rows.npy"
PROGRESS = "progress.json"


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """progress.json.

    Attributes:
        job: names all that decides the vectors but the texts.
        rows: how many texts have their vectors in the draft.
        texts_sha256: of those texts.
        tokens: how many tokens they were.
        truncation: what was cut of them.
    """

    job: str
    rows: Annotated[int, msgspec.Meta(ge=0, le=1 << 48)] = 0
    texts_sha256: str = hashlib.sha256().hexdigest()
    tokens: int = 0
    truncation: Truncation = Truncation()


class TextHash:
    """The SHA-256 of consecutive texts."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def follow(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, each hashed as it passes.

        Raises:
            TypeError, InputError: as `quoit.prompts.check_text`; the hash is then that of the texts before.
        """
        for index, text in enumerate(texts):
            content = check_text(text, f"text {index}").encode()
            self._hash.update(len(content).to_bytes(8, "little"))
            self._hash.update(content)
            yield text

    def hexdigest(self) -> str:
        """The hash of the texts so far."""
        return self._hash.hexdigest()


class Draft:
    """The vectors of an unfinished run; made by `drafting`."""

    def __init__(self, folder: Path, progress: Progress, like: Vectors) -> None:
        """Opens the rows file and drops what progress.json does not count.

        Args:
            folder: the hidden folder, which exists.
            progress: what counts.
            like: [0, dim], the type and width of the vectors.
        """
        self.folder = folder
        self.progress = progress
        self.like = like
        self.hash = TextHash()
        self.resumed = progress
        self.left_out: Sequence[int] = ()  # numbers that rows of vectors do not get as ids, ascending
        self.file: IO[bytes] = (folder / ROWS).open("r+b" if progress.rows else "w+b")
        self._write_header()
        self.file.seek(0, os.SEEK_END)
        end = self.header_bytes + progress.rows * like.shape[1] * like.dtype.itemsize
        if self.file.tell() < end:
            self.file.close()
            raise InputError(f"{folder} is damaged: {ROWS} is too short; leave out --resume to start anew")
        self.file.truncate(end)
        self.file.seek(end)

    def remaining(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts that have no vector yet, after a check that the others are those of the draft.

        Raises:
            InputError: the texts do not begin with those that the draft has vectors of.
        """
        stream = self.hash.follow(texts)
        passed = sum(1 for _ in islice(stream, self.progress.rows))
        if passed < self.progress.rows or self.hash.hexdigest() != self.progress.texts_sha256:
            raise InputError(
                f"the first {self.progress.rows:,} texts are not those that {self.folder} has vectors of; leave out "
                "--resume to start anew"
            )
        yield from stream

    def write(self, vectors: Vectors, tokens: int, truncation: Truncation) -> None:
        """Appends the vectors [n, dim] of the texts taken from `remaining` since the last call."""
        vectors.tofile(self.file)
        self.file.flush()
        os.fsync(self.file.fileno())
        before = self.progress
        self.progress = Progress(
            before.job,
            before.rows + len(vectors),
            self.hash.hexdigest(),
            before.tokens + tokens,
            before.truncation + truncation,
        )
        with replacing(self.folder / PROGRESS) as draft:
            draft.write_bytes(msgspec.json.encode(self.progress))

    def publish(self, destination: Path) -> None:
        """Gives the vectors their final form and name, and removes the draft."""
        self._write_header()
        self.file.close()
        rows = self.folder / ROWS
        if destination.suffix == NPY:
            rows.replace(destination)
        else:
            whole = self.folder / f"whole{destination.suffix}"
            ids = np.delete(np.arange(self.progress.rows + len(self.left_out), dtype=np.int64), self.left_out)
            VECTOR_WRITERS[destination.suffix](whole, np.load(rows, mmap_mode="r"), ids)
            whole.replace(destination)
        shutil.rmtree(self.folder)

    def _write_header(self) -> None:
        """The .npy header with the row count so far.

        numpy pads it so that the first dimension can grow in place (`numpy.lib.format`, GROWTH_AXIS_MAX_DIGITS).
        """
        self.file.seek(0)
        header = np.lib.format.header_data_from_array_1_0(self.like)
        np.lib.format.write_array_header_1_0(self.file, header | {"shape": (self.progress.rows, self.like.shape[1])})
        self.header_bytes = self.file.tell()


@contextmanager
def drafting(destination: Path, job: str, like: Vectors, *, resume: bool) -> Iterator[Draft]:
    """The draft of a run. Leaving the context normally publishes it, and leaving it by an error keeps what it has.

    Args:
        destination: a file that ends in one of SUFFIXES.
        job: names all that decides the vectors but the texts; a draft of another job is not taken up.
        like: [0, dim], the type and width of the vectors.
        resume: take up the draft that is there, if any; else it is replaced.

    Raises:
        InputError: the destination cannot be written, another process writes it, or the draft is of another job.
    """
    check_destination(destination, SUFFIXES)
    folder = destination.with_name(f".{destination.name}.partial")
    with locked(destination, InputError):
        progress = _read_progress(folder, job) if resume else None
        if progress is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            progress = Progress(job)
        draft = Draft(folder, progress, like)
        try:
            yield draft
        except BaseException:
            draft.file.close()
            if not draft.progress.rows:
                shutil.rmtree(folder)
            raise
        draft.publish(destination)


def _read_progress(folder: Path, job: str) -> Progress | None:
    """What a draft has, or None where there is no draft."""
    try:
        found = msgspec.json.decode((folder / PROGRESS).read_bytes(), type=Progress)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / PROGRESS} is damaged: {brief(error)}; leave out --resume to start anew") from error
    if found.rows and not (folder / ROWS).exists():
        return None  # killed between the rename of the rows and the removal of the draft
    if found.job != job:
        raise InputError(f"{folder} was begun with another model or other options; leave out --resume to start anew")
    return found
