"""Read the bytes and lines of a file, a pipe or standard input, and unpack gzip.

Memory is bounded for every file, even if it unpacks to a huge size: by the limit of one line, or by the limit of a file
that is read whole.
"""

import gzip
import io
import os
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from quoit.errors import InputError, brief
from quoit.files.readers.records import STANDARD_INPUT, Source

GZIP_MAGIC = b"\x1f\x8b"
GZIP_SUFFIX = ".gz"

LINE_BYTES = 1 << 28
"""Maximum number of bytes of one line, its end included."""

WHOLE_BYTES = 1 << 30
"""Maximum number of bytes of a file that is read whole."""

CHUNK_BYTES = 1 << 20


def text_lines(source: Source) -> Iterator[str]:
    r"""Yield the lines of a file with their ends; only `\n` ends a line. A byte order mark is left out.

    Raises:
        InputError: the file cannot be read, is a damaged gzip file, has a line beyond the limit, or is not UTF-8.
    """
    for number, line in enumerate(_byte_lines(source), 1):
        content = line.removeprefix(BOM_UTF8) if number == 1 else line
        if content:
            yield _decoded(content, source, number)


def whole_text(source: Source) -> str:
    """Return all text of a file, without a byte order mark.

    Raises:
        InputError: the file cannot be read, is a damaged gzip file, is beyond the limit, or is not UTF-8.
    """
    content = whole_bytes(source)
    if content.startswith(BOM_UTF8):
        del content[: len(BOM_UTF8)]
    return _decoded(content, source, 1)


def whole_bytes(source: Source) -> bytearray:
    """Return all bytes of a file.

    Raises:
        InputError: the file cannot be read, is a damaged gzip file, or is beyond the limit.
    """
    content = bytearray()
    with _opened(source) as file:
        while chunk := file.read(CHUNK_BYTES):
            content += chunk
            if len(content) > WHOLE_BYTES:
                raise InputError(
                    f"{source.name} has more than {WHOLE_BYTES:,} bytes, and {source.kind} is read whole; convert it "
                    "to jsonl, which is read by the line, or split it"
                )
    return content


def _byte_lines(source: Source) -> Iterator[bytes]:
    number = 0
    with _opened(source) as file:
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise InputError(f"{source.line(number)} has more than {LINE_BYTES:,} bytes; break it up")
            yield line


def _decoded(content: bytes | bytearray, source: Source, number: int) -> str:
    """Decode bytes that begin in the line with this number.

    Raises:
        InputError: the bytes are not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = source.line(number + content.count(b"\n", 0, error.start))
        reason = f"byte 0x{content[error.start]:02x}, {error.reason}"
        raise InputError(f"{line} is not UTF-8: {reason}; convert it first") from error


@contextmanager
def _opened(source: Source) -> Iterator[io.BufferedIOBase]:
    """Open the file's bytes, unpacked; errors while they are read become an InputError with the file's name."""
    try:
        with _raw(source) as file:
            packed = file.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
            if not packed and source.path.lower().endswith(GZIP_SUFFIX):
                raise InputError(f"{source.name} ends in .gz and is no gzip file; rename it, or make it again")
            yield gzip.GzipFile(fileobj=file) if packed else file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{source.name} is a damaged gzip file: {brief(error)}; make it again") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else brief(error)
        raise InputError(f"{source.name} cannot be read: {reason}; check it and its permissions") from error


@contextmanager
def _raw(source: Source) -> Iterator[io.BufferedReader]:
    """Open the file without unpacking; standard input stays open."""
    if source.path != STANDARD_INPUT:
        with Path(source.path).open("rb") as file:
            yield file
        return
    if sys.stdin is None:
        raise InputError("standard input is closed; name a file, or pipe texts in")
    stream = sys.stdin.buffer
    # A program that calls this code may have replaced it by an unbuffered stream.
    yield stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
