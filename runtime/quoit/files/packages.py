"""Import the packages that formats need, or say which extra of quoit has them."""

from typing import Any

from quoit.errors import InputError

ROWS_AT_A_TIME = 8192
"""Number of rows of vectors that are written at once: one row group of a `.parquet` file."""


def pyarrow_parquet() -> Any:
    """Return the module pyarrow.parquet.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"parquet needs pyarrow ({error}); `pip install 'quoit[parquet]'`, or use another format"
        ) from error
    return parquet


def lance_module() -> Any:
    """Return the module lance.

    Raises:
        InputError: pylance is not installed.
    """
    try:
        import lance
    except ImportError as error:
        raise InputError(
            f"lance needs pylance ({error}); `pip install 'quoit[lance]'`, or use another format"
        ) from error
    return lance
