"""Find the format of a file, and read its texts."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from quoit.errors import InputError
from quoit.files.readers import code
from quoit.files.readers.code import read_code
from quoit.files.readers.columns import check_parquet, read_parquet
from quoit.files.readers.delimited import delimiter_of, read_delimited
from quoit.files.readers.folders import files_in
from quoit.files.readers.html import read_html
from quoit.files.readers.json_array import read_json
from quoit.files.readers.jsonl import read_jsonl
from quoit.files.readers.markdown import read_markdown
from quoit.files.readers.pdf import read_pdf
from quoit.files.readers.records import (
    STANDARD_INPUT,
    Entry,
    Lack,
    Record,
    Skipped,
    Source,
    check_document_columns,
    present,
    with_column,
)
from quoit.files.readers.streams import GZIP_SUFFIX
from quoit.files.readers.txt import read_txt

READERS: dict[str, Callable[[Source], Iterator[Entry]]] = {
    "txt": read_txt,
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_delimited,
    "tsv": read_delimited,
    "md": read_markdown,
    "parquet": read_parquet,
    "html": read_html,
    "pdf": read_pdf,
    "code": read_code,
}
KINDS = tuple(READERS)
SUFFIXES = {kind: kind for kind in KINDS if kind != "code"} | {"htm": "html", "markdown": "md"}
"""Format of each suffix but those of source code."""
ALL_SUFFIXES = dict.fromkeys(code.SUFFIXES, "code") | SUFFIXES
DOCUMENTS = ("txt", "md", "html", "pdf", "code")
"""Formats whose records are parts of a document, and not rows with columns."""
LOOKED_AT = 1000
"""Number of records in which a key to keep is looked for."""
DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")


def read_texts(
    path: str,
    *,
    kind: str | None = None,
    column: str = "text",
    delimiter: str | None = None,
    skipped: Skipped | None = None,
) -> Iterator[str]:
    """Yield the texts of a file, or of a folder's files in order.

    Args:
        path: path of the file or folder.
        kind: as in `read_records`.
        column: as in `read_records`.
        delimiter: as in `read_records`.
        skipped: collects the records without a text; if None, the first such record is refused.

    Raises:
        InputError: as for `files_of`, `read_records` and `present`; the message names the place.
    """
    records = read_files(files_of(path, kind), kind=kind, column=column, delimiter=delimiter, skipped=skipped)
    return (record.text for record in records)


def read_files(
    files: Sequence[str],
    *,
    kind: str | None = None,
    column: str = "text",
    delimiter: str | None = None,
    keep: Sequence[str] = (),
    ids: bool = False,
    skipped: Skipped | None = None,
) -> Iterator[Record]:
    """Yield the records with a text of files one after the other, in bounded memory.

    All files are checked before the first is read.

    Args:
        files: paths of the files.
        kind: as in `read_records`.
        column: as in `read_records`.
        delimiter: as in `read_records`.
        keep: as in `read_records`.
        ids: as in `read_records`.
        skipped: collects the records without a text, numbered through all files; if None, the first such record is
            refused.

    Raises:
        InputError: as for `read_records` and `present`; the message names the place.
    """
    entries = [read_records(file, kind=kind, column=column, delimiter=delimiter, keep=keep, ids=ids) for file in files]
    return (record for _, record in present(chain.from_iterable(entries), skipped))


def read_records(
    path: str,
    *,
    kind: str | None = None,
    column: str = "text",
    delimiter: str | None = None,
    keep: Sequence[str] = (),
    ids: bool = False,
) -> Iterator[Entry]:
    r"""Yield the records of a file, in order; json and md files are read whole.

    Args:
        path: a file, a pipe such as `/dev/fd/63`, or `-` for standard input. A gzip file is unpacked while it is read.
        kind: `txt` (a text per line), `jsonl` (a string, or an object with `column`, per line), `json` (an array of
            these), `csv`, `tsv` or `parquet` (the column `column`), `md` and `html` (a text per paragraph, list item,
            table row or code block, with its headings before it), `pdf` (a text per page), `code` (a text per block);
            by default the result of `kind_of`.
        column: name of the text column; `meta.text` is the key `text` of the object `meta`.
        delimiter: character between the fields of csv and tsv, by default a comma and a tab; `\t` is a tab.
        keep: names of columns whose values are kept with each text; of txt and md, those of DOCUMENT_COLUMNS. Parquet
            files keep none here (`quoit.files.kept` reads them).
        ids: True if the first of them has ids.

    Raises:
        InputError: the file is absent, of an unknown kind or damaged, or a record is wrong; the message names its
            place.
    """
    kind = kind_of(path, kind)
    source = Source(path, kind, column, delimiter_of(kind, delimiter), tuple(keep), ids)
    if kind in DOCUMENTS:
        check_document_columns(source)
    if path != STANDARD_INPUT and (not Path(path).exists() or Path(path).is_dir()):
        raise InputError(f"{path} is no file; check the path, or use - for standard input")
    if kind == "parquet":
        check_parquet(source)
    return with_column(READERS[kind](source))


def check_key(path: str, name: str, *, kind: str | None = None) -> None:
    """Refuse a column to keep that no one of a JSON file's first records has, since its name may be misspelt.

    Pipes are not looked at, as they can be read once only.

    Raises:
        InputError: no record has the key, or the file cannot be read.
    """
    kind = kind_of(path, kind)
    if kind not in ("json", "jsonl") or is_stream(path):
        return
    first: Lack | None = None
    entries = islice(READERS[kind](Source(path, kind, name)), LOOKED_AT)
    while True:
        try:
            entry = next(entries, None)
        except InputError:  # a value that is no text; or a fault, which reading will meet again
            return
        if entry is None:
            break
        if not (isinstance(entry, Lack) and entry.absent):
            return
        first = first or entry
    if first is not None:
        raise InputError(
            f"{first.place} has {first.lack}; no other of the first records has it either; name one of them with "
            "--keep or --id"
        )


def kind_of(path: str, given: str | None = None) -> str:
    """Return the format of a file: the one given, else its suffix before `.gz`; txt for a pipe without a suffix.

    Raises:
        InputError: the format is not one of KINDS.
    """
    kind = given if given is not None else ALL_SUFFIXES.get(suffix_of(path), suffix_of(path))
    if not kind and is_stream(path):
        return "txt"
    if kind not in KINDS:
        raise InputError(f"{path} has the unknown kind {kind!r}; name one of {', '.join(KINDS)} with --input-format")
    return kind


def suffix_of(path: str) -> str:
    """Return the suffix of a file's name before `.gz`, in lower case and without its dot."""
    return Path(path.lower().removesuffix(GZIP_SUFFIX)).suffix.lstrip(".")


def is_stream(path: str) -> bool:
    """Return whether a path is standard input, a pipe, a character device, or an open descriptor."""
    if path.startswith(DESCRIPTORS) or path in (STANDARD_INPUT, "/dev/stdin"):
        return True
    file = Path(path)
    return file.is_fifo() or file.is_char_device()


def files_of(path: str, kind: str | None = None, *, with_code: bool = False, ignore: bool = False) -> list[str]:
    """Return the file itself; for a folder, its files with a known suffix, or all of its files if a kind is given.

    `quoit.files.readers.folders.files_in` decides the order and leaves out hidden files.

    Args:
        path: the file or folder.
        kind: format of all files.
        with_code: True for source code too.
        ignore: True to leave out what the folder's `.gitignore` files leave out.

    Raises:
        InputError: the name is empty, or the folder has no such file.
    """
    if not path:
        raise InputError("the file name is empty; name a file or a folder, or use - for standard input")
    if path == STANDARD_INPUT or not Path(path).is_dir():
        return [path]
    suffixes = ALL_SUFFIXES if with_code else SUFFIXES
    files = files_in(path, lambda file: kind is not None or suffix_of(file) in suffixes, ignore=ignore)
    if not files:
        raise InputError(
            f"{path} is a folder without text files; file names must end in one of {', '.join(SUFFIXES)}, each also "
            "with .gz; or name the format with --input-format"
        )
    return files
