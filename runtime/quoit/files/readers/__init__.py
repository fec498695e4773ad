"""Read files of texts for the command line, one record at a time, each with its place in the file.

`quoit.files.readers.formats` has the table of formats; one module reads each format.
"""

from quoit.files.readers.formats import KINDS, check_key, files_of, kind_of, read_files, read_records, read_texts
from quoit.files.readers.records import STANDARD_INPUT, Entry, Record, Skipped, present

__all__ = [
    "KINDS",
    "STANDARD_INPUT",
    "Entry",
    "Record",
    "Skipped",
    "check_key",
    "files_of",
    "kind_of",
    "present",
    "read_files",
    "read_records",
    "read_texts",
]
