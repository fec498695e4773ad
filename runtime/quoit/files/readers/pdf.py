"""Read PDF: a text for each page that has one. The file is read whole."""

import io
import logging
from collections.abc import Iterator
from typing import Any

from quoit.errors import InputError, brief
from quoit.files.readers.records import Entry, Part, Source, part_record
from quoit.files.readers.streams import whole_bytes


def read_pdf(source: Source) -> Iterator[Entry]:
    """Yield a record for each page with text.

    Raises:
        InputError: pypdf is not installed, the file is damaged or encrypted, or no page has text.
    """
    reader = pdf_reader()
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of each small fault of a file
    found = False
    try:
        pages = list(enumerate(reader(io.BytesIO(whole_bytes(source))).pages, 1))
    except InputError:
        raise
    except Exception as error:  # pypdf raises errors of many types, also for a password
        raise InputError(
            f"{source.name} is no readable PDF: {brief(error)}; check it, or remove its password"
        ) from error
    for number, page in pages:
        text = _text_of(page, source, number)
        if text:
            found = True
            yield part_record(source, text, Part(text, page=number))
    if not found:
        raise InputError(
            f"{source.name} has {len(pages)} pages and no text; if they are scanned, recognise their text (OCR) first"
        )


def _text_of(page: Any, source: Source, number: int) -> str:
    try:
        text: str = page.extract_text()
    except Exception as error:  # as above
        raise InputError(f"{source.name}, page {number} cannot be read: {brief(error)}; check the file") from error
    return text.encode(errors="replace").decode().strip()  # a broken table of characters gives lone surrogates


def pdf_reader() -> Any:
    """Return the class that reads PDF.

    Raises:
        InputError: pypdf is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise InputError(
            f"PDF needs pypdf ({error}); `pip install 'quoit[documents]'`, or convert it to text first"
        ) from error
    return PdfReader
