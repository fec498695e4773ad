"""Read the texts of the files and folders that a command is given, each with its file and number."""

import argparse
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from quoit.cli.process import tell
from quoit.errors import InputError
from quoit.files.chunks import Chunking
from quoit.files.kept import KeptColumns, OutputColumns
from quoit.files.readers import Entry, Record, Skipped, check_key, files_of, kind_of, present, read_files, read_records


@dataclass(frozen=True)
class Item:
    """A text with its file and its number among the file's texts, from 0; and its id, if the file has ids."""

    file: str
    index: int
    record: Record
    id: str | int | None = None

    @property
    def text(self) -> str:
        """Return the text."""
        return self.record.text

    @property
    def where(self) -> str:
        """Return the file's name with the line or page, where documents have them."""
        part = self.record.part
        if part is not None and part.line:
            return f"{self.file}:{part.line}"
        return self.file if part is None or not part.page else f"{self.file}, page {part.page}"


@dataclass(frozen=True)
class Inputs:
    """The texts of some files.

    Attributes:
        files: texts of each file, by its path.
        skipped: records that were left out.
        several: True if results must name each text's file, since several files or a folder were given.
        left_out: why files of folders were left out, one message each.
    """

    files: dict[str, list[Item]]
    skipped: Skipped
    several: bool
    left_out: list[str] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        """Return all texts, file after file."""
        return list(chain.from_iterable(self.files.values()))

    def chunked(self, chunking: Chunking, kinds: Collection[str], given: str | None) -> "Inputs":
        """Return the same files with the texts of files of some formats cut into chunks; `given` is --input-format."""
        files = {
            file: [
                Item(file, index, record) for index, record in enumerate(chunking.cut(item.record for item in items))
            ]
            if kind_of(file, given) in kinds
            else items
            for file, items in self.files.items()
        }
        return replace(self, files=files)

    def report(self) -> None:
        """Print how many records and files were left out."""
        report_skipped(self.skipped)
        if self.left_out:
            many = "1 file was" if len(self.left_out) == 1 else f"{len(self.left_out)} files were"
            tell(f"{many} left out, the first since {self.left_out[0]}")


def load(options: argparse.Namespace, sources: Sequence[str], *, tree: bool = False) -> Inputs:
    """Read the texts of files and of folders' files. Blank lines of txt are left out, since they contain no text.

    Args:
        options: options of the command, with those of `add_input`.
        sources: the files and folders.
        tree: True to read folders as trees of documents and source code: without what their `.gitignore` files leave
            out, unless --no-ignore is given, and without the files that cannot be read.

    Raises:
        InputError: a file cannot be read, or a record has no text and --skip-missing is not given.
    """
    skipped = Skipped()
    found: dict[str, list[Item]] = {}
    left_out: list[str] = []
    files = _files(options, sources, tree=tree)
    for file, of_folder in files.items():
        lines = kind_of(file, options.input_format) == "txt"
        try:
            texts = present(_records(options, file), skipped if options.skip_missing else None)
            found[file] = [Item(file, row, some) for row, some in texts if some.text.strip() or not lines]
        except InputError as error:
            if not (tree and of_folder):
                raise
            left_out.append(str(error))
    if left_out and not found:
        raise InputError(left_out[0])
    return Inputs(found, skipped, len(files) > 1 or list(files) != list(dict.fromkeys(sources)), left_out)


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
    files = list(_files(options, [source]))
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
            kept = KeptColumns(files, columns, as_json=options.output.suffix == ".jsonl")
        for file in files:
            for name in columns.read:
                check_key(file, name, kind=options.input_format)
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


def _files(options: argparse.Namespace, sources: Sequence[str], *, tree: bool = False) -> dict[str, bool]:
    """Return the named files and the files of the named folders, each once, without the output.

    The value says whether a file was found in a folder.

    Raises:
        InputError: a name is empty, a folder has no files of texts, or the only file is the output.
    """
    output = None if options.output is None else os.path.realpath(options.output)
    ignore = tree and not options.no_ignore
    files: dict[str, bool] = {}
    for source in sources:
        named = files_of(source, options.input_format, with_code=tree, ignore=ignore)
        others = [file for file in named if os.path.realpath(file) != output]
        if not others:
            raise InputError(f"{options.output} is the output, and the one file to read; name another with -o")
        files |= {file: named != [source] for file in others}
    return unique(files)


def unique(files: dict[str, bool]) -> dict[str, bool]:
    """Return the files without those that another name means, in their order."""
    first: dict[str, str] = {}
    for file in files:
        first.setdefault(os.path.realpath(file), file)
    return {file: files[file] for file in first.values()}


def _records(options: argparse.Namespace, file: str) -> Iterator[Entry]:
    return read_records(file, kind=options.input_format, column=options.column, delimiter=options.delimiter)


def report_skipped(skipped: Skipped) -> None:
    """Print on standard error how many records were left out, if any."""
    if skipped.rows:
        tell(skipped.describe())
