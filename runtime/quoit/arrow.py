"""Embed columns of Arrow, Polars, pandas and DuckDB to an Arrow column of vectors; null stays null."""

from typing import Any

import numpy as np

from quoit.embedder import Embedder
from quoit.engine.pooling import DtypeLike, Ranges
from quoit.errors import InputError
from quoit.text.prompts import document_prompt


def embed(
    embedder: Embedder,
    column: Any,
    *,
    prompt: str | None = None,
    dim: int | None = None,
    normalize: bool = True,
    dtype: DtypeLike = "float32",
    ranges: Ranges | None = None,
) -> Any:
    """Return the vectors of a column of texts, as a column of fixed-size lists.

        import pyarrow as pa, quoit.arrow
        table = table.append_column("vector", quoit.arrow.embed(embedder, table["text"]))

    Args:
        embedder: the embedder.
        column: a column of strings of any library that speaks Arrow: an Array or ChunkedArray of pyarrow, a Series of
            Polars or pandas, a relation of DuckDB with one column.
        prompt: text to put before each text; None for the checkpoint's prompt of documents. For queries, give
            `embedder.query_prompt()`.
        dim: as in `Embedder.encode`.
        normalize: as in `Embedder.encode`.
        dtype: as in `Embedder.encode`.
        ranges: as in `Embedder.encode`.

    Returns:
        A `pyarrow.FixedSizeListArray` of n lists; null where the text is null.

    Raises:
        InputError: pyarrow is not installed, or the column is no column of strings.
        Others: as `Embedder.encode` does.
    """
    texts = _strings(column)
    import pyarrow as pa

    before = document_prompt(embedder.contract.prompts).text if prompt is None else prompt
    present = [text for text in texts.to_pylist() if text is not None]
    vectors = embedder.encode(present, prompt=before, dim=dim, normalize=normalize, dtype=dtype, ranges=ranges)
    missing = np.asarray(texts.is_null())
    rows = np.zeros((len(texts), vectors.shape[1]), vectors.dtype)
    rows[~missing] = vectors
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1], mask=pa.array(missing))


def _strings(column: Any) -> Any:
    """Return a column as a ChunkedArray of strings.

    Raises:
        InputError: pyarrow is not installed, or the column is none of strings.
    """
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; `pip install 'quoit[parquet]'`") from error
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    elif not isinstance(column, pa.ChunkedArray):
        if not hasattr(column, "__arrow_c_stream__"):
            raise InputError(
                f"column is {type(column).__name__}, which does not speak Arrow; pass pyarrow.array(texts), or the "
                "texts to Embedder.encode_document"
            )
        column = pa.chunked_array(column)
    kind = column.type
    if pa.types.is_struct(kind) and kind.num_fields == 1:  # a table or a relation of one column
        column = pc.struct_field(column, [0])
    if pa.types.is_null(column.type):  # nothing but null
        column = column.cast(pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError(f"column is of {kind}, and not of strings; select the column of texts, or cast it to string")
    return column
