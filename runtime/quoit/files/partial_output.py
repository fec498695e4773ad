"""Keep the vectors of an unfinished `quoit embed` in a hidden folder beside the output, so that the run can resume.

    .OUT.partial/rows.npy        the vectors so far
    .OUT.partial/kept.jsonl      values of the input's other columns that are kept, if there are any
    .OUT.partial/progress.json   number of rows that count, and the texts and the job that they belong to

Rows are on disk before progress.json counts them. So if a process is killed at any moment, another process can resume
its draft. The output appears under its name in one step, at the end. A draft with vectors is removed only if the caller
asks for it.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from quoit.engine.pooling import Vectors
from quoit.errors import InputError, brief
from quoit.files.atomic import (
    explain_full_disk,
    hidden_path,
    locked,
    new_folder,
    real_path,
    remove,
    replace_folder,
    replacing,
    restore_folder,
)
from quoit.files.kept import ID, Kept, KeptColumns, KeptLines, OutputColumns, RowNumbers
from quoit.files.npy_rows import NpyRows
from quoit.files.readers.records import Record
from quoit.files.writers import LANCE, VECTOR_WRITERS, About, check_destination
from quoit.text.text_hash import TextHash
from quoit.text.tokenizer import Truncation

NPY = ".npy"
SUFFIXES = (NPY, *VECTOR_WRITERS)
KIND = "partial"
"""Suffix of the hidden folder."""
ROWS = "rows.npy"
KEPT = "kept.jsonl"
PROGRESS = "progress.json"
ANEW = "use --restart to start anew"


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of progress.json.

    Attributes:
        job: hash of all that decides the vectors, except the texts.
        rows: number of texts whose vectors are in the draft.
        texts_sha256: hash of these texts.
        tokens: number of tokens of these texts.
        truncation: counts of the texts that were cut, and of the tokens that they lost.
    """

    job: str
    rows: Annotated[int, msgspec.Meta(ge=0, le=1 << 48)] = 0
    texts_sha256: str = hashlib.sha256().hexdigest()
    tokens: int = 0
    truncation: Truncation = Truncation()


class Draft:
    """The vectors of an unfinished run; `drafting` makes it.

    Attributes:
        progress: the rows that count so far.
        resumed: the progress when this run began.
        left_out: row numbers without a vector (skipped texts), ascending.
        about: what a `.parquet` file says of its vectors.
        fits: False if the texts of this run differ from those of the draft.
    """

    def __init__(self, folder: Path, progress: Progress, like: Vectors, columns: OutputColumns | KeptColumns) -> None:
        """Open the draft's files, and cut the rows that progress.json does not count.

        Args:
            folder: the hidden folder; it must exist.
            progress: the rows that count.
            like: an array [0, dim] with the type and width of the vectors.
            columns: columns of the output; or those of parquet files, which are read again at the end.

        Raises:
            InputError: rows that count are missing.
            OSError: the disk is full, or cannot be written.
        """
        self.folder = folder
        self.progress = progress
        self.hash = TextHash()
        self.resumed = progress
        self.left_out: Sequence[int] = ()
        self.about: About = {}
        self.fits = True
        self.columns = columns.columns if isinstance(columns, KeptColumns) else columns
        self._again = columns if isinstance(columns, KeptColumns) else None
        self.rows = NpyRows(folder / ROWS, like, progress.rows)
        self._kept: KeptLines | None = None
        if self.columns.read and self._again is None:
            self._kept = KeptLines(folder / KEPT, self.columns.written, progress.rows)
        for file, name in ((self.rows, ROWS), (self._kept, KEPT)):
            if file is not None and not file.is_whole:
                self.close()
                raise InputError(f"{folder} is damaged: {name} is too short; {ANEW}")

    def close(self) -> None:
        """Close the draft's files."""
        self.rows.close()
        if self._kept is not None:
            self._kept.close()

    def remaining(self, records: Iterable[Record]) -> Iterator[str]:
        """Yield the texts that have no vector yet, after a check that the texts before them are those of the draft.

        Raises:
            InputError: the first texts differ from those that the draft has vectors of.
        """
        texts = (record.text for record in records) if self._kept is None else self._kept.follow(records, self.hash)
        stream = self.hash.follow(texts)
        passed = 0
        for _ in islice(stream, self.progress.rows):
            passed += 1
            if self._kept is not None:
                self._kept.waiting.clear()
        if passed < self.progress.rows or self.hash.hexdigest() != self.progress.texts_sha256:
            self.fits = False
            raise InputError(
                f"the first {self.progress.rows:,} texts, or values kept beside them, are not those that {self.folder} "
                f"has vectors of; {ANEW}"
            )
        yield from stream

    def write(self, vectors: Vectors, tokens: int, truncation: Truncation) -> None:
        """Append the vectors [n, dim] of the texts taken from `remaining` since the last call.

        Raises:
            InputError: the disk is full; the draft stays as it was.
        """
        before, rows = self.progress, self.rows
        with explain_full_disk(rows.path, rows.path, rows.size_of(before.rows + len(vectors))):
            rows.append(vectors)
            if self._kept is not None:
                self._kept.append(len(vectors))
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

    def publish(self, destination: Path) -> None:
        """Give the vectors their final format and name, and remove the draft.

        Raises:
            InputError: the disk is full; the draft stays as it was.
        """
        rows = self.rows.path
        with explain_full_disk(destination, rows):
            self.rows.finish(self.progress.rows)
        if self._kept is not None:
            self._kept.close()
        whole = rows if destination.suffix == NPY else self._convert(destination)
        if whole.is_dir():
            replace_folder(whole, real_path(destination))
        else:
            whole.replace(real_path(destination))
        shutil.rmtree(self.folder)

    def _convert(self, destination: Path) -> Path:
        """Write the rows to a file in the draft's folder, in the destination's format, and return its path."""
        whole = self.folder / f"whole{destination.suffix}"
        names = (ID, *self.columns.keep, self.columns.vector)
        try:
            remove(whole)  # of a process that was killed
            with explain_full_disk(destination, whole, self.progress.rows * self.rows.row_bytes):
                vectors = np.load(self.rows.path, mmap_mode="r")
                VECTOR_WRITERS[destination.suffix](whole, vectors, self._beside(), self.about, names)
        except BaseException:
            remove(whole)
            raise
        return whole

    def _beside(self) -> Kept:
        """Return what stands beside the vectors."""
        kept: Kept | None = self._kept
        if self._again is not None:
            self._again.left_out = self.left_out
            kept = self._again
        if kept is not None and self.columns.id is not None:
            return kept
        numbers = np.arange(self.progress.rows + len(self.left_out), dtype=np.int64)
        return RowNumbers(np.delete(numbers, self.left_out), kept)


@contextmanager
def drafting(
    destination: Path,
    job: str,
    like: Vectors,
    columns: OutputColumns | KeptColumns | None = None,
    *,
    resume: bool = False,
    restart: bool = False,
) -> Iterator[Draft]:
    """Give the draft of a run. It is published when the context ends, and kept with its vectors if an error ends it.

    Args:
        destination: a file that ends in one of SUFFIXES, or a symbolic link to one.
        job: hash of all that decides the vectors, except the texts; a draft of another job is not resumed.
        like: an array [0, dim] with the type and width of the vectors.
        columns: columns of the output; or those of parquet files, which are read again at the end.
        resume: True to resume an existing draft, if there is one.
        restart: True to replace an existing draft, if there is one.

    Raises:
        InputError: the destination cannot be written, another process is writing it, or there is a draft that may be
            neither resumed nor replaced.
    """
    check_destination(destination, SUFFIXES)
    folder = hidden_path(destination, KIND)
    with locked(real_path(destination), InputError):
        if destination.suffix == LANCE:
            restore_folder(real_path(destination))
        found = None if restart else _take_up(folder, job, resume)
        draft = _open(destination, folder, found or Progress(job), like, columns or OutputColumns())
        try:
            yield draft
            draft.publish(destination)
        except BaseException as error:
            _close(draft, error)
            raise


def is_finished(destination: Path) -> bool:
    """Return whether the output exists and there is no draft with vectors beside it.

    If so, a draft without vectors is removed.

    Raises:
        InputError: another process is writing the output, or the draft is damaged.
    """
    check_destination(destination, SUFFIXES)
    folder, real = hidden_path(destination, KIND), real_path(destination)
    with locked(real, InputError):
        if not real.exists() or _read_progress(folder) is not None:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True


def _open(
    destination: Path, folder: Path, progress: Progress, like: Vectors, columns: OutputColumns | KeptColumns
) -> Draft:
    """Open the draft in a folder; the folder is made new if progress counts no vectors.

    Raises:
        InputError: the disk is full (a folder without vectors is then removed), or the draft is damaged.
    """
    fresh = nullcontext() if progress.rows else new_folder(folder)
    with explain_full_disk(destination, folder), fresh, explain_full_disk(destination, folder / ROWS):
        return Draft(folder, progress, like, columns)


def _close(draft: Draft, error: BaseException) -> None:
    """Close the draft after an error: remove it if it has no vectors, else add a note about --resume to the error.

    The progress is read from the disk, since Ctrl-C may arrive after progress.json got its name and before
    `draft.progress` is set.
    """
    draft.close()
    progress = _read_progress(draft.folder)
    if progress is None:
        shutil.rmtree(draft.folder, ignore_errors=True)
    elif draft.fits:
        error.add_note(f"{progress.rows:,} texts are done, and the same command with --resume goes on")


def _take_up(folder: Path, job: str, resume: bool) -> Progress | None:
    """Return the progress of an existing draft to resume; None if there is no draft with vectors.

    Raises:
        InputError: there is a draft of another job, or `resume` is False.
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
    """Return the progress of a draft; None if there is no draft with vectors.

    Raises:
        InputError: progress.json is damaged.
    """
    try:
        found = msgspec.json.decode((folder / PROGRESS).read_bytes(), type=Progress)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / PROGRESS} is damaged: {brief(error)}; {ANEW}") from error
    if not (folder / ROWS).exists():
        return None  # killed between the rename of the rows and the removal of the draft
    return found if found.rows else None
