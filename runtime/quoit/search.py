"""Search the texts of a file: cache their vectors, take the nearest by cosine, and let a reranker judge those."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from quoit.embedder import Embedder
from quoit.engine.pooling import Float32
from quoit.engine.scoring import best_first
from quoit.errors import InputError
from quoit.files.atomic import replacing
from quoit.fingerprint import digest
from quoit.machine import cache_folder
from quoit.reranker import Reranker
from quoit.text.prompts import document_prompt
from quoit.text.text_hash import TextHash

CACHE_BYTES = 4 << 30
CACHE_FORMAT = 1

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
        file = self.folder / f"{cache_key(embedder, texts)}.npz"
        found = self._read(file, (len(texts), embedder.dim))
        if found is not None:
            return found
        vectors: Float32 = embedder.encode_document(texts, show_progress=show_progress)
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
    prompt = document_prompt(embedder.contract.prompts)
    return digest(CACHE_FORMAT, hashed.hexdigest(), embedder.fingerprint(prompt.text))


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
