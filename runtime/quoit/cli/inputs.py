"""Read the texts of the files and folders that a command is given, each with its file and number."""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from quoit.cli.process import tell
from quoit.errors import InputError
from quoit.files.kept import KeptColumns, OutputColumns
from quoit.files.readers import Entry, Record, Skipped, files_of, kind_of, present, read_files, read_records


@dataclass(frozen=True)
class Item:
    """A text with its file and its number among the file's records, from 0."""

    file: str
    index: int
    text: str


@dataclass(frozen=True)
class Inputs:
    """The texts of some files.

    Attributes:
        files: texts of each file, by its path.
        skipped: records that were left out.
        several: True if results must name each text's file, since several files or a folder were given.
    """

    files: dict[str, list[Item]]
    skipped: Skipped
    several: bool

    @property
    def items(self) -> list[Item]:
        """Return all texts, file after file."""
        return list(chain.from_iterable(self.files.values()))

    def report(self) -> None:
        """Print how many records were left out."""
        report_skipped(self.skipped)


def load(options: argparse.Namespace, sources: Sequence[str]) -> Inputs:
    """Read the texts of files and of folders' files. Blank lines of txt are left out, since they contain no text.

    Raises:
        InputError: a file cannot be read, or a record has no text and --skip-missing is not given.
    """
    skipped = Skipped()
    records = {file: _records(options, file) for file in _files(options, sources)}
    found = {}
    for file, some in records.items():
        lines = kind_of(file, options.input_format) == "txt"
        texts = present(some, skipped if options.skip_missing else None)
        found[file] = [Item(file, index, record.text) for index, record in texts if record.text.strip() or not lines]
    return Inputs(found, skipped, several=len(found) > 1 or list(found) != list(dict.fromkeys(sources)))


def stream(
    options: argparse.Namespace, source: str, skipped: Skipped, columns: OutputColumns
) -> tuple[Iterator[Record], OutputColumns | KeptColumns]:
    """Return the records of a file or of a folder's files, in bounded memory, and the columns that are kept of them.

    Blank lines are texts.

    Args:
        options: options of the command, with those of `add_input`.
        source: the file or folder.
        skipped: collects the records without a text, by their number in all files, if --skip-missing is given.
        columns: the columns of the output.

    Raises:
        InputError: as for `load`; a file that is absent, of an unknown kind or without a column to keep is refused
            before the first text.
    """
    files = _files(options, [source])
    kept: OutputColumns | KeptColumns = columns
    if columns.read:
        kinds = {kind_of(file, options.input_format) for file in files}
        if "parquet" in kinds:
            if len(kinds) > 1:
                raise InputError(
                    f"{source} has parquet files and others ({', '.join(sorted(kinds))}), whose columns cannot be kept "
                    "together; embed them apart"
                )
            for file in files:
                next(_records(options, file), None)  # refused here if it is absent or damaged
            kept = KeptColumns(files, columns)
    records = read_files(
        files,
        kind=options.input_format,
        column=options.column,
        delimiter=options.delimiter,
        keep=columns.read,
        ids=columns.id is not None,
        skipped=skipped if options.skip_missing else None,
    )
    return records, kept


def _files(options: argparse.Namespace, sources: Sequence[str]) -> list[str]:
    """Return the named files and the files of the named folders, each once, without the output.

    Raises:
        InputError: a name is empty, a folder has no files of texts, or the only file is the output.
    """
    output = None if options.output is None else os.path.realpath(options.output)
    files: list[str] = []
    for source in sources:
        others = [file for file in files_of(source, options.input_format) if os.path.realpath(file) != output]
        if not others:
            raise InputError(f"{options.output} is the output, and the one file to read; name another with -o")
        files += others
    return list(dict.fromkeys(files))


def _records(options: argparse.Namespace, file: str) -> Iterator[Entry]:
    return read_records(file, kind=options.input_format, column=options.column, delimiter=options.delimiter)


def report_skipped(skipped: Skipped) -> None:
    """Print on standard error how many records were left out, if any."""
    if skipped.rows:
        tell(skipped.describe())
