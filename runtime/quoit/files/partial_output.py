"""The vectors of a bulk run while it lasts: in a hidden folder beside the output, so that the run can go on later.

    .OUT.partial/rows.npy        the vectors so far
    .OUT.partial/progress.json   how many of them count, and which texts and which job they belong to

Rows are on disk before progress.json counts them, so a process that is killed at any moment leaves a draft that
another can take up. The output appears under its name in one step, at the end. No draft with vectors is removed
unless the caller says so. This module does not know how texts become vectors.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import msgspec
import numpy as np

from quoit.engine.pooling import Vectors
from quoit.errors import InputError, brief
from quoit.files.writers import VECTOR_WRITERS, check_destination, locked, naming_a_full_disk, real_file, replacing
from quoit.text.text_hash import TextHash
from quoit.text.tokenizer import Truncation

NPY = ".npy"
SUFFIXES = (NPY, *VECTOR_WRITERS)
ROWS = "rows.npy"
PROGRESS = "progress.json"
ANEW = "use --restart to start anew"


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


class Draft:
    """The vectors of an unfinished run; made by `drafting`.

    Attributes:
        progress: what counts so far.
        resumed: what counted when this run began.
        fits: False if this run's texts differ from the draft's.
    """

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
        self.left_out: Sequence[int] = ()  # row numbers without a vector (skipped texts), ascending
        self.fits = True
        self.row_bytes = like.shape[1] * like.dtype.itemsize
        self.file: IO[bytes] = (folder / ROWS).open("r+b" if progress.rows else "w+b")
        try:
            self._drop_uncounted()
        except BaseException:
            self.close()
            raise

    def remaining(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts that have no vector yet, after a check that the others are those of the draft.

        Raises:
            InputError: the texts do not begin with those that the draft has vectors of.
        """
        stream = self.hash.follow(texts)
        passed = sum(1 for _ in islice(stream, self.progress.rows))
        if passed < self.progress.rows or self.hash.hexdigest() != self.progress.texts_sha256:
            self.fits = False
            raise InputError(
                f"the first {self.progress.rows:,} texts are not those that {self.folder} has vectors of; {ANEW}"
            )
        yield from stream

    def write(self, vectors: Vectors, tokens: int, truncation: Truncation) -> None:
        """Appends the vectors [n, dim] of the texts taken from `remaining` since the last call.

        Raises:
            InputError: the disk is full; the draft stays as it was.
        """
        before, rows = self.progress, self.folder / ROWS
        needed = self.header_bytes + (before.rows + len(vectors)) * self.row_bytes
        with naming_a_full_disk(rows, rows, needed):
            self.file.write(np.ascontiguousarray(vectors).data)
            self.file.flush()
            os.fsync(self.file.fileno())
        progress = Progress(
            before.job,
            before.rows + len(vectors),
            self.hash.hexdigest(),
            before.tokens + tokens,
            before.truncation + truncation,
        )
        content = msgspec.json.encode(progress)
        with replacing(self.folder / PROGRESS, len(content)) as draft:
            draft.write_bytes(content)
        self.progress = progress

    def close(self) -> None:
        """Closes the rows file, whose last bytes a full disk may not take."""
        with suppress(OSError):
            self.file.close()

    def publish(self, destination: Path) -> None:
        """Gives the vectors their final form and name, and removes the draft.

        Raises:
            InputError: the disk is full; the draft stays as it was.
        """
        rows, real = self.folder / ROWS, real_file(destination)
        with naming_a_full_disk(destination, rows):
            self._write_header()
            self.file.close()
        if destination.suffix == NPY:
            rows.replace(real)
        else:
            self._convert(rows, destination).replace(real)
        shutil.rmtree(self.folder)

    def _convert(self, rows: Path, destination: Path) -> Path:
        """A file in the draft's folder with the rows in the destination's format."""
        whole = self.folder / f"whole{destination.suffix}"
        ids = np.delete(np.arange(self.progress.rows + len(self.left_out), dtype=np.int64), self.left_out)
        try:
            with naming_a_full_disk(destination, whole, self.progress.rows * self.row_bytes):
                VECTOR_WRITERS[destination.suffix](whole, np.load(rows, mmap_mode="r"), ids)
        except BaseException:
            whole.unlink(missing_ok=True)
            raise
        return whole

    def _drop_uncounted(self) -> None:
        """Writes the header, and cuts the rows that progress.json does not count.

        Raises:
            InputError: rows that it counts are missing.
        """
        self._write_header()
        self.file.seek(0, os.SEEK_END)
        end = self.header_bytes + self.progress.rows * self.row_bytes
        if self.file.tell() < end:
            raise InputError(f"{self.folder} is damaged: {ROWS} is too short; {ANEW}")
        self.file.truncate(end)
        self.file.seek(end)

    def _write_header(self) -> None:
        """The .npy header with the row count so far.

        numpy pads it so that the first dimension can grow in place (`numpy.lib.format`, GROWTH_AXIS_MAX_DIGITS).
        """
        self.file.seek(0)
        header = np.lib.format.header_data_from_array_1_0(self.like)
        np.lib.format.write_array_header_1_0(self.file, header | {"shape": (self.progress.rows, self.like.shape[1])})
        self.header_bytes = self.file.tell()


@contextmanager
def drafting(
    destination: Path, job: str, like: Vectors, *, resume: bool = False, restart: bool = False
) -> Iterator[Draft]:
    """The draft of a run. Leaving the context normally publishes it, and leaving it by an error keeps what it has.

    Args:
        destination: a file that ends in one of SUFFIXES, or a symbolic link to one.
        job: names all that decides the vectors but the texts; a draft of another job is not taken up.
        like: [0, dim], the type and width of the vectors.
        resume: take up the draft that is there, if any.
        restart: replace the draft that is there, if any.

    Raises:
        InputError: the destination cannot be written, another process writes it, or a draft is there that may be
            neither taken up nor replaced.
    """
    check_destination(destination, SUFFIXES)
    folder = _folder(destination)
    with locked(real_file(destination), InputError):
        found = None if restart else _take_up(folder, job, resume)
        draft = _open(destination, folder, found or Progress(job), like)
        try:
            yield draft
            draft.publish(destination)
        except BaseException as error:
            _close(draft, error)
            raise


def is_finished(destination: Path) -> bool:
    """Whether the output is there and no draft beside it has vectors.

    Raises:
        InputError: another process writes the output, or the draft is damaged.
    """
    check_destination(destination, SUFFIXES)
    folder, real = _folder(destination), real_file(destination)
    with locked(real, InputError):
        if not real.exists() or _read_progress(folder) is not None:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True


def _folder(destination: Path) -> Path:
    """Where the draft of an output lies: on the disk that the output is on."""
    real = real_file(destination)
    return real.with_name(f".{real.name}.partial")


def _open(destination: Path, folder: Path, progress: Progress, like: Vectors) -> Draft:
    """The draft in a folder, which is made anew where progress counts no vectors.

    Raises:
        InputError: the disk is full, and a folder without vectors is removed; or the draft is damaged.
    """
    try:
        if not progress.rows:
            shutil.rmtree(folder, ignore_errors=True)
            with naming_a_full_disk(destination, folder):
                folder.mkdir()
        with naming_a_full_disk(destination, folder / ROWS):
            return Draft(folder, progress, like)
    except BaseException:
        if not progress.rows:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _close(draft: Draft, error: BaseException) -> None:
    """Close the draft after an error: remove it if it has no vectors, else add a note about --resume to the error.

    What it has is read from the disk: Ctrl-C may arrive after progress.json got its name and before `draft` knows.
    """
    draft.close()
    progress = _read_progress(draft.folder)
    if progress is None:
        shutil.rmtree(draft.folder, ignore_errors=True)
    elif draft.fits:
        error.add_note(f"{progress.rows:,} texts are done, and the same command with --resume goes on")


def _take_up(folder: Path, job: str, resume: bool) -> Progress | None:
    """What the draft has that is to be taken up, or None where there is none.

    Raises:
        InputError: there is one, of another job or not to be taken up.
    """
    found = _read_progress(folder)
    if found is None:
        return None
    if found.job != job:
        raise InputError(
            f"{folder} has {found.rows:,} texts of a run with another model or other options that was not finished; "
            f"{ANEW}, or name another output"
        )
    if not resume:
        raise InputError(
            f"{folder} has {found.rows:,} texts of a run that was not finished; use --resume to go on with it, or "
            "--restart to start anew"
        )
    return found


def _read_progress(folder: Path) -> Progress | None:
    """What a draft has, or None where there is no draft with vectors."""
    try:
        found = msgspec.json.decode((folder / PROGRESS).read_bytes(), type=Progress)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / PROGRESS} is damaged: {brief(error)}; {ANEW}") from error
    if not (folder / ROWS).exists():
        return None  # killed between the rename of the rows and the removal of the draft
    return found if found.rows else None
