"""Write a `.npy` file [rows, dim] that grows at its end, one window of rows at a time.

numpy pads the header so that the first dimension can grow in place (`numpy.lib.format`, GROWTH_AXIS_MAX_DIGITS). The
header is updated when the file is opened and when it is finished. This module does not know which rows count
(`quoit.files.partial_output` does).
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from quoit.engine.pooling import Vectors


class NpyRows:
    """An open file of rows.

    Attributes:
        path: the file.
        row_bytes: size of one row in bytes.
        header_bytes: size of the header in bytes.
        is_whole: False if the file has fewer rows than the number it was opened with.
    """

    def __init__(self, path: Path, like: Vectors, rows: int) -> None:
        """Open the file, write its header, and cut it after the first `rows` rows.

        Args:
            path: path of the file; the file is made new if `rows` is 0.
            like: an array [0, dim] with the type and width of the rows.
            rows: number of rows to keep.

        Raises:
            OSError: the file cannot be written; it is closed before the error is raised.
        """
        self.path = path
        self.row_bytes: int = like.shape[1] * like.dtype.itemsize
        self._like = like
        self._file: IO[bytes] = path.open("r+b" if rows else "w+b")
        try:
            self.header_bytes = self._write_header(rows)
            self.is_whole = self._truncate(rows)
        except BaseException:
            self.close()
            raise

    def size_of(self, rows: int) -> int:
        """Return the bytes of a file with `rows` rows."""
        return self.header_bytes + rows * self.row_bytes

    def append(self, vectors: Vectors) -> None:
        """Write rows [n, dim]; they are on the disk when this returns.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        self._file.write(np.ascontiguousarray(vectors).data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self, rows: int) -> None:
        """Write the header of a file with `rows` rows, and close the file.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        self._write_header(rows)
        self._file.close()

    def close(self) -> None:
        """Close the file. It is no error if a full disk does not take its last bytes, since they do not count."""
        with suppress(OSError):
            self._file.close()

    def _truncate(self, rows: int) -> bool:
        """Cut the file after the first `rows` rows, to append there; return False and do nothing if it has fewer."""
        end = self.size_of(rows)
        if self._file.seek(0, os.SEEK_END) < end:
            return False
        self._file.truncate(end)
        self._file.seek(end)
        return True

    def _write_header(self, rows: int) -> int:
        """Write the header of a file with `rows` rows, and return its size in bytes."""
        self._file.seek(0)
        header = np.lib.format.header_data_from_array_1_0(self._like)
        np.lib.format.write_array_header_1_0(self._file, header | {"shape": (rows, self._like.shape[1])})
        return self._file.tell()
