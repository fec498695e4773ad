"""Read the vectors that `quoit embed` wrote to `.parquet` and `.lance`, a batch of rows at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from quoit.engine.pooling import ONE_BIT, Dtype, Vectors
from quoit.errors import InputError, brief
from quoit.files.packages import ROWS_AT_A_TIME, lance_module, pyarrow_parquet
from quoit.files.writers import ABOUT, LANCE

Row = Mapping[str, Any]


class Description(msgspec.Struct, frozen=True):
    """What `quoit embed` wrote of its vectors, as far as a search needs it.

    Attributes:
        model: id of the checkpoint.
        dim: number of dimensions.
        dtype: type of the values.
        normalize: True if the vectors have unit length.
        revision: commit of the checkpoint.
        precision: variant that made them.
        ranges: least and greatest value of each dimension, [2, dim], of 8-bit types.
    """

    model: str
    dim: Annotated[int, msgspec.Meta(ge=1)]
    dtype: Dtype
    normalize: bool
    revision: str | None = None
    precision: str | None = None
    ranges: list[list[float]] | None = None

    @property
    def values(self) -> int:
        """Return the number of values of a vector in the file."""
        return -(-self.dim // 8) if self.dtype in ONE_BIT else self.dim


@dataclass(frozen=True)
class StoredVectors:
    """An output of `quoit embed`.

    Attributes:
        path: the file, or the folder of a Lance dataset.
        about: what was written of the vectors.
        columns: names of the columns beside the vectors, `id` first.
        vector: name of the vectors' column.
    """

    path: str
    about: Description
    columns: tuple[str, ...]
    vector: str

    def batches(self) -> Iterator[tuple[Vectors, Any]]:
        """Yield the vectors [n, dim] of some rows, and a record batch of pyarrow with their other columns.

        Raises:
            InputError: the file is damaged, or a row has no vector.
        """
        row = 0
        for batch in self._batches():
            column = batch.column(self.vector)
            if column.null_count:
                raise InputError(f"{self.path} has rows without a vector after row {row}; embed the texts anew")
            values = column.flatten().to_numpy(zero_copy_only=False)
            row += len(batch)
            yield values.reshape(len(batch), -1), batch.drop_columns([self.vector])

    def _batches(self) -> Iterator[Any]:
        try:
            if self.path.endswith(LANCE):
                yield from lance_module().dataset(self.path).to_batches(batch_size=ROWS_AT_A_TIME)
                return
            with pyarrow_parquet().ParquetFile(self.path) as file:
                yield from file.iter_batches(ROWS_AT_A_TIME)
        except InputError:
            raise
        except Exception as error:  # pyarrow and Lance raise errors of many types
            raise InputError(f"{self.path} cannot be read: {brief(error)}; embed the texts anew") from error


def open_stored(path: str) -> StoredVectors | None:
    """Return the vectors of a file or dataset; None if it is not an output of `quoit embed`.

    Raises:
        InputError: a Lance dataset is damaged or not of quoit, what is said of the vectors is damaged, or a package is
            not installed.
    """
    schema = _schema_of(path)
    if schema is None:
        return None
    described = (schema.metadata or {}).get(ABOUT.encode())
    fields = list(schema)
    if described is None or not fields or not str(fields[-1].type).startswith("fixed_size_list"):
        if path.rstrip("/").endswith(LANCE):
            raise InputError(f"{path} is no dataset that quoit embed wrote; name the texts, or embed them to it")
        return None
    try:
        about = msgspec.json.decode(described, type=Description)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} does not say what its vectors are in its schema's key {ABOUT!r}: {brief(error)}; embed the texts "
            "anew"
        ) from error
    if fields[-1].type.list_size != about.values:
        raise InputError(
            f"{path} has vectors of {fields[-1].type.list_size} values, and its schema says {about.values}; embed the "
            "texts anew"
        )
    names = [field.name for field in fields]
    return StoredVectors(path.rstrip("/"), about, tuple(names[:-1]), names[-1])


def row_values(batch: Any, index: int) -> Row:
    """Return a row's values by their columns; a value that Python cannot represent becomes a phrase."""
    return {name: _value(column[index]) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except Exception:  # a date beyond the year 9999, an unknown time zone, bytes that are not UTF-8
        return f"({scalar.type} beyond Python)"


def _schema_of(path: str) -> Any:
    """Return a file's schema; None if it is neither Parquet nor Lance, or no readable Parquet."""
    if path.rstrip("/").endswith(LANCE):
        try:
            return lance_module().dataset(path).schema
        except InputError:
            raise
        except Exception as error:  # Lance raises errors of many types
            raise InputError(f"{path} is no readable Lance dataset: {brief(error)}; check the path") from error
    if not (path.endswith(".parquet") and Path(path).is_file()):
        return None
    try:
        return pyarrow_parquet().read_schema(path)
    except InputError:
        raise
    except Exception:  # its reader says what is wrong with it
        return None
