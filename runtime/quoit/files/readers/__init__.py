"""Files of texts in, for the command line: one record at a time, with the place where it stands.

`quoit.files.readers.formats` has the table of formats, one module reads each of them. This package does not
know what the texts are for.
"""

from quoit.files.readers.formats import KINDS, files_of, kind_of, read_files, read_records, read_texts
from quoit.files.readers.records import STANDARD_INPUT, Record, Skipped, present

__all__ = [
    "KINDS",
    "STANDARD_INPUT",
    "Record",
    "Skipped",
    "files_of",
    "kind_of",
    "present",
    "read_files",
    "read_records",
    "read_texts",
]
