"""Run `quoit search`: find passages in files, trees of files and stored vectors, and let a reranker judge them."""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quoit.cli.inputs import Inputs, Item, load, unique
from quoit.cli.options import MODEL_VARIABLE, model_of, run_options
from quoit.cli.process import tell
from quoit.cli.ranking import COSINE, P_YES, SHOWN, Place, add_ranking, check, publish
from quoit.embedder import Embedder
from quoit.engine.pooling import Float32
from quoit.errors import InputError
from quoit.files.chunks import Chunking
from quoit.files.kept import ID
from quoit.files.readers import KINDS, Record, kind_of
from quoit.files.readers.records import Part
from quoit.files.stored import Row, StoredVectors, open_stored
from quoit.reranker import Reranker
from quoit.search import Hit, VectorCache, check_stored, nearest, nearest_stored, rerank

if TYPE_CHECKING:
    from quoit.cli.options import Commands

CANDIDATES = 50
CHUNK = 256
"""Number of tokens that documents are cut to."""
MOST_LINES = 1 << 31
CHUNKED = ("md", "html", "pdf", "code")
"""Formats of documents; a line of txt is a text of its own."""


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    search = commands.add_parser("search", help="find texts in files: nearest vectors, cached, then a reranker")
    search.add_argument("query")
    search.add_argument(
        "file",
        nargs="+",
        help="where to search: files, folders, - for standard input, or vectors in .parquet or .lance of quoit embed",
    )
    search.add_argument("--rerank", metavar="ARTIFACT", help="a rerank artifact that judges the nearest texts")
    search.add_argument(
        "--candidates", type=int, default=CANDIDATES, help=f"how many it judges (default: {CANDIDATES})"
    )
    search.add_argument("--cache", type=Path, help="where vectors are kept (default: the user's cache folder)")
    search.add_argument("--no-cache", action="store_true", help="keep no vectors")
    search.add_argument(
        "--chunk",
        metavar="TOKENS",
        type=int,
        help=f"cut texts to so many tokens, 0 for never (default: {CHUNK} for md, html, pdf and code, else 0)",
    )
    search.add_argument(
        "--overlap", metavar="TOKENS", type=int, help="how many tokens a chunk repeats of the one before (default: 0)"
    )
    search.add_argument(
        "--no-ignore", action="store_true", help="read also what the .gitignore files of folders leave out"
    )
    add_ranking(search, MODEL_VARIABLE, "and written")
    search.set_defaults(run=run_search)


def run_search(options: argparse.Namespace) -> int:
    """Run `quoit search`, and return its exit code."""
    check_search(options)
    sources = list(unique(dict.fromkeys(options.file, False)))
    stored = {source: found for source in sources if (found := open_stored(source)) is not None}
    check_not_output(options.output, stored)
    inputs = load(options, [source for source in sources if source not in stored], tree=True)
    embedder = Embedder(model_of(options), **run_options(options).arguments())
    inputs = cut(options, inputs, embedder)
    reranker = open_judge(options) if options.rerank else None
    for one in stored.values():
        check_vectors(one, embedder, options, judged=reranker is not None)
    start = time.perf_counter()
    top = options.top or SHOWN
    many = top if reranker is None else max(options.candidates, top)
    places = nearest_places(options, embedder, inputs, stored.values(), many)
    if reranker is not None:
        hits = [Hit(index, place.figures[COSINE]) for index, place in enumerate(places)]
        texts = [place.item.text for place in places]
        hits = rerank(options.query, texts, hits, reranker, top, instruction=options.instruction)
        places = [Place(places[hit.index].item, {P_YES: hit.score or 0.0, COSINE: hit.cosine}) for hit in hits]
    seconds = time.perf_counter() - start
    several = inputs.several or len(options.file) > 1
    documents = has_documents(options, inputs, stored.values())
    publish(places, [COSINE] if reranker is None else [P_YES, COSINE], options, several=several, documents=documents)
    tell(describe(inputs, stored, seconds))
    inputs.report()
    return 0


def check_search(options: argparse.Namespace) -> None:
    """Refuse options of a search with which nothing could be found, shown or kept, before any work is done.

    Raises:
        InputError: an option is wrong.
    """
    check(options)
    if options.candidates < 1:
        raise InputError(f"--candidates {options.candidates} finds nothing; use a number from 1 on")
    if options.cache is not None and options.cache.exists() and not options.cache.is_dir():
        raise InputError(f"--cache {options.cache} is a file; name a folder, or use --no-cache")
    if options.chunk == 0 and options.overlap is not None:
        raise InputError(f"--overlap {options.overlap} has no effect with --chunk 0; leave it out")


def check_not_output(output: Path | None, stored: Iterable[str]) -> None:
    """Refuse to write the ranking over vectors that are searched.

    Raises:
        InputError: the output is one of them.
    """
    same = next((source for source in stored if output and os.path.realpath(source) == os.path.realpath(output)), None)
    if same is not None:
        raise InputError(f"{output} is the output, and vectors that are searched; name another with -o")


def nearest_places(
    options: argparse.Namespace, embedder: Embedder, inputs: Inputs, stored: Iterable[StoredVectors], many: int
) -> list[Place]:
    """Return the nearest texts of the inputs and of stored vectors, best first."""
    query = embedder.encode_query(options.query, instruction=options.instruction)
    items = inputs.items
    hits = nearest(query, vectors_of(embedder, inputs, cache_of(options)), many) if items else []
    places = [Place(items[hit.index], {COSINE: hit.cosine}) for hit in hits]
    for one in stored:
        rows = nearest_stored(query, one, many)
        places += [Place(stored_item(one, hit, row, options.column), {COSINE: hit.cosine}) for hit, row in rows]
    return sorted(places, key=lambda place: -place.figures[COSINE])[:many]


def cut(options: argparse.Namespace, inputs: Inputs, embedder: Embedder) -> Inputs:
    """Return the inputs with documents cut into chunks; all other texts too if --chunk was given.

    Raises:
        InputError: --chunk or --overlap is wrong.
    """
    if options.chunk == 0:
        return inputs
    tokenizer = embedder.pipeline.tokenizer.tokenizer
    chunking = Chunking(
        CHUNK if options.chunk is None else options.chunk,
        0 if options.overlap is None else options.overlap,
        lambda text: len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]),
    )
    return inputs.chunked(chunking, CHUNKED if options.chunk is None else KINDS, options.input_format)


def has_documents(options: argparse.Namespace, inputs: Inputs, stored: Iterable[StoredVectors]) -> bool:
    """Return whether hits name lines and pages: of documents, of texts that were cut, of stored rows with places."""
    kinds = {kind_of(file, options.input_format) for file in inputs.files}
    placed = any("file" in one.columns and not {"line", "page"}.isdisjoint(one.columns) for one in stored)
    return bool(options.chunk) or placed or not kinds.isdisjoint(CHUNKED)


def check_vectors(stored: StoredVectors, embedder: Embedder, options: argparse.Namespace, *, judged: bool) -> None:
    """Refuse stored vectors that cannot be searched in, and say where they were made in another way.

    Raises:
        InputError: they are of another model, or a reranker needs texts that are not there.
    """
    check_stored(stored, embedder)
    if judged and options.column not in stored.columns:
        raise InputError(
            f"{stored.path} has no column {options.column!r} for the reranker, but {', '.join(stored.columns)}; embed "
            f"the texts with --keep {options.column}, or name another with --column"
        )
    ours = (embedder.pipeline.artifact.manifest.source.revision, embedder.pipeline.session.choice.precision)
    for theirs, our in zip((stored.about.revision, stored.about.precision), ours, strict=True):
        if theirs != our:
            tell(f"{stored.path} has vectors of {theirs}, and the query's is of {our}")


def stored_item(stored: StoredVectors, hit: Hit, row: Row, column: str) -> Item:
    """Return the text of a stored row, or its other columns if it has none; and where it stands in its document."""
    others = {name: value for name, value in row.items() if name not in (ID, "file", "line", "page")}
    text = row.get(column)
    if not isinstance(text, str):
        text = ", ".join(f"{name}: {value}" for name, value in others.items() if value is not None)
    file, title = row.get("file"), row.get("title")
    line, page = (number_of(row.get(name)) for name in ("line", "page"))
    part = None
    if isinstance(file, str) and (line or page):
        part = Part(text, title if isinstance(title, str) else "", line, page)
    record = Record(text, f"{stored.path}, row {hit.index + 1}", part=part)
    return Item(stored.path if part is None else str(file), hit.index, record, row[ID])


def number_of(value: object) -> int:
    """Return the number of a line or page, or 0 if a value is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < MOST_LINES else 0


def describe(inputs: Inputs, stored: Mapping[str, StoredVectors], seconds: float) -> str:
    """Return what was searched, in words."""
    texts = f"{len(inputs.items)} texts of {len(inputs.files)} files" if inputs.files or not stored else ""
    vectors = f"the vectors of {', '.join(stored)}" if stored else ""
    return f"{' and '.join(filter(None, (texts, vectors)))} in {seconds:.2f} s"


def open_judge(options: argparse.Namespace) -> Reranker:
    """Open the reranker of --rerank.

    A tuning file (--tuning) holds for one artifact only, the embedding one, so the reranker does not use it. --tuned
    finds the tuning of each artifact.
    """
    judge = replace(run_options(options), tuning=None)
    return Reranker(options.rerank, **judge.arguments())


def cache_of(options: argparse.Namespace) -> VectorCache | None:
    """Return the cache of vectors, or None with --no-cache."""
    if options.no_cache:
        return None
    return VectorCache.of_user() if options.cache is None else VectorCache(options.cache)


def vectors_of(embedder: Embedder, inputs: Inputs, cache: VectorCache | None) -> Float32:
    """Return the vectors of all texts, [n, dim], those of each file from the cache if there is one."""
    show = sys.stderr.isatty()
    if cache is not None:
        files = [[item.text for item in items] for items in inputs.files.values()]
        return np.concatenate(cache.files(embedder, files, show_progress=show))
    vectors: Float32 = embedder.encode_document([item.text for item in inputs.items], show_progress=show)
    return vectors
