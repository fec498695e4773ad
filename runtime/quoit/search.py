"""Search texts: cache the vectors of files, or read stored ones; take the nearest, and let a reranker judge those."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from quoit.embedder import Embedder
from quoit.engine.pooling import EIGHT_BITS, ONE_BIT, Float32, Vectors, bits_of, pack_bits, unit_rows, unit_vectors
from quoit.engine.scoring import best_first
from quoit.errors import InputError
from quoit.files.atomic import replacing
from quoit.files.stored import Row, StoredVectors, row_values
from quoit.fingerprint import digest
from quoit.machine import cache_folder
from quoit.reranker import Reranker
from quoit.text.prompts import document_prompt
from quoit.text.text_hash import TextHash

CACHE_BYTES = 4 << 30
CACHE_FORMAT = 1
TEXTS_AT_ONCE = 4096
"""Number of texts of files that are embedded before their vectors are cached."""
RESCORED = 4
"""How many times as many binary vectors as are wanted are compared with the query's own values, as
sentence-transformers' `rescore_multiplier` has it by default."""

logger = logging.getLogger("quoit")


@dataclass(frozen=True)
class Hit:
    """A search result: the text's index, its cosine similarity to the query, and P(yes) if a reranker judged it."""

    index: int
    cosine: float
    score: float | None = None


@dataclass
class VectorCache:
    """Disk cache of the vectors of whole files. Its key is the hash of the texts and of all that decides a vector.

    If the cache cannot be written, the vectors are returned all the same, and the logger `quoit` warns once.

    Attributes:
        folder: folder with one `.npz` file for each list of texts; made at the first write.
        max_bytes: maximum size of all files together; beyond it, the least recently used files are removed.
        warned: True after the one warning that the cache cannot be written.
    """

    folder: Path
    max_bytes: int = CACHE_BYTES
    warned: bool = field(default=False, init=False)

    @classmethod
    def of_user(cls) -> "VectorCache":
        """Return the cache in the cache folder."""
        return cls(cache_folder() / "vectors")

    def documents(self, embedder: Embedder, texts: Sequence[str], *, show_progress: bool = False) -> Float32:
        """Return the vectors of the texts as `Embedder.encode_document` gives them, [n, dim] float32."""
        return self.files(embedder, [texts], show_progress=show_progress)[0]

    def files(
        self, embedder: Embedder, files: Sequence[Sequence[str]], *, show_progress: bool = False
    ) -> list[Float32]:
        """Return the vectors of several files' texts, [n, dim] float32 each.

        The texts of files that are not cached are embedded together, up to TEXTS_AT_ONCE of them, and then cached. So
        an interruption loses no more than those.
        """
        paths = [self.folder / f"{cache_key(embedder, texts)}.npz" for texts in files]
        found = [self._read(path, (len(texts), embedder.dim)) for path, texts in zip(paths, files, strict=True)]
        missing = [index for index, vectors in enumerate(found) if vectors is None]
        for group in grouped(missing, [len(texts) for texts in files]):
            texts = [text for index in group for text in files[index]]
            vectors: Float32 = embedder.encode_document(texts, show_progress=show_progress)
            ends = np.cumsum([len(files[index]) for index in group])
            for index, some in zip(group, np.split(vectors, ends[:-1]), strict=True):
                found[index] = self._keep(paths[index], some)
        return [vectors for vectors in found if vectors is not None]

    def _keep(self, file: Path, vectors: Float32) -> Float32:
        """Return the vectors, after an attempt to write them."""
        try:
            self._write(file, vectors)
        except (OSError, InputError) as error:
            if not self.warned:
                advice = "name another folder with --cache, or use --no-cache"
                logger.warning("vectors are not cached: %s; %s", error, advice)
            self.warned = True
            return vectors
        with suppress(OSError):
            self._prune(keep=file)
        return vectors

    def _write(self, file: Path, vectors: Float32) -> None:
        """Write a file, and make the folder if it does not exist."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(file, vectors.nbytes) as draft, draft.open("wb") as opened:
            np.savez(opened, vectors=vectors)

    @staticmethod
    def _read(file: Path, shape: tuple[int, int]) -> Float32 | None:
        """Return the vectors of a cached file; None if the file is absent, not readable or damaged."""
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                found: Float32 = arrays["vectors"]
            with suppress(OSError):  # a cache that another user filled may be read-only
                os.utime(file)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except Exception as error:  # numpy and zipfile raise a dozen error types for a damaged file
            logger.warning("%s is damaged (%s) and is made anew", file, error)
            return None
        whole = found.shape == shape and found.dtype == np.float32 and bool(np.isfinite(found).all())
        return found if whole else None

    def _prune(self, keep: Path) -> None:
        """Remove the least recently used files until the others fit; other processes may do the same at the same time.

        A file that cannot be removed is skipped.
        """
        found: list[tuple[float, int, Path]] = []
        for file in self.folder.glob("*.npz"):
            try:
                status = file.stat()
            except OSError:
                continue
            found.append((status.st_mtime, status.st_size, file))
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found):
            if total <= self.max_bytes:
                return
            if file != keep:
                with suppress(OSError):
                    file.unlink(missing_ok=True)
                    total -= size


def cache_key(embedder: Embedder, texts: Sequence[str]) -> str:
    """Return the hash of the texts and of all that decides their vectors."""
    hashed = TextHash()
    for _ in hashed.follow(texts):
        pass
    return digest(CACHE_FORMAT, hashed.hexdigest(), embedder.fingerprint(_prompt(embedder)))


def _prompt(embedder: Embedder) -> str:
    return document_prompt(embedder.contract.prompts).text


def grouped(indices: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Yield runs of indices whose sizes have a sum of TEXTS_AT_ONCE or little more."""
    group: list[int] = []
    total = 0
    for index in indices:
        group.append(index)
        total += sizes[index]
        if total >= TEXTS_AT_ONCE:
            yield group
            group, total = [], 0
    if group:
        yield group


def check_stored(stored: StoredVectors, embedder: Embedder) -> None:
    """Refuse stored vectors that a query of this model cannot be compared with.

    Raises:
        InputError: they are of another model, or lack what is needed to compare them.
    """
    about, source = stored.about, embedder.pipeline.artifact.manifest.source
    if about.model != source.id or about.dim > embedder.dim:
        raise InputError(
            f"{stored.path} has vectors of {about.model}, {about.dim} dimensions, and the model is {source.id}, "
            f"{embedder.dim} dimensions; name that model with -m"
        )
    if about.dtype in EIGHT_BITS and np.shape(about.ranges or ()) != (2, about.dim):
        raise InputError(f"{stored.path} does not say the ranges of its {about.dtype} vectors; embed the texts anew")


def nearest_stored(query: Float32, stored: StoredVectors, top_k: int) -> list[tuple[Hit, Row]]:
    """Return the rows of stored vectors that are nearest to a query, best first, each with its other columns.

    All rows are compared. Vectors of one bit a dimension are first compared by their bits; RESCORED times as many rows
    as are wanted are then compared with the query's own values.

    Args:
        query: the query's vector of unit length, [dim] of the model; its first values are used where less are stored.
        stored: the vectors.
        top_k: number of rows.

    Raises:
        InputError: the vectors cannot be read, or one is not finite.
    """
    start = unit_rows(query[: stored.about.dim])[0]
    best: list[tuple[Hit, Row]] = []
    row = 0
    for vectors, others in stored.batches():
        least = best[-1][0].cosine if len(best) == top_k else -np.inf
        near = [found for found in _nearest_of(start, vectors, stored, top_k) if found[1] > least]
        best += [(Hit(row + index, cosine), row_values(others, index)) for index, cosine in near]
        best = sorted(best, key=lambda found: (-found[0].cosine, found[0].index))[:top_k]
        row += len(vectors)
    return best


def _nearest_of(query: Float32, vectors: Vectors, stored: StoredVectors, top_k: int) -> Iterator[tuple[int, float]]:
    """Yield the nearest of some vectors, best first, each with its cosine.

    Raises:
        InputError: a vector is not finite.
    """
    about, rows = stored.about, np.arange(len(vectors))
    if about.dtype in ONE_BIT:
        apart = np.bitwise_count(bits_of(vectors, about.dtype) ^ pack_bits(query[None])).sum(axis=1)
        rows = best_first(-apart.astype(np.float32), RESCORED * top_k)
    if about.normalize and about.dtype in ("float32", "float16"):
        values: Float32 = vectors.astype(np.float32)  # of unit length already
    else:
        values = unit_vectors(vectors[rows], about.dtype, about.dim, about.ranges)
    cosines = values @ query
    if not np.isfinite(cosines).all():
        raise InputError(f"{stored.path} has vectors that are not finite; embed the texts anew")
    for place in best_first(cosines, top_k).tolist():
        yield int(rows[place]), float(cosines[place])


def nearest(query: Float32, documents: Float32, top_k: int | None) -> list[Hit]:
    """Return the documents [n, dim] nearest to a query [dim] by cosine, best first; all vectors have unit length."""
    cosines = documents @ query
    return [Hit(index, float(cosines[index])) for index in best_first(cosines, top_k).tolist()]


def rerank(
    query: str,
    texts: Sequence[str],
    hits: Sequence[Hit],
    reranker: Reranker,
    top_k: int,
    instruction: str | None = None,
) -> list[Hit]:
    """Return the best `top_k` hits by the scores of a reranker, best first."""
    ranking = reranker.rank(query, [texts[hit.index] for hit in hits], top_k=top_k, instruction=instruction)
    chosen = [(hits[ranked["index"]], ranked["score"]) for ranked in ranking]
    return [Hit(hit.index, hit.cosine, score) for hit, score in chosen]
