"""Run `quoit similarity`, `quoit search` and `quoit rerank`: rank the texts of files, best first."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from quoit.cli.inputs import Inputs, Item, load
from quoit.cli.options import (
    MODEL_VARIABLE,
    RERANKER_VARIABLE,
    add_input,
    add_model,
    check_argument,
    model_of,
    run_options,
)
from quoit.cli.process import show, tell
from quoit.embedder import Embedder
from quoit.engine.pooling import Float32
from quoit.engine.scoring import activate, best_first
from quoit.errors import InputError
from quoit.files.writers import RECORD_SUFFIXES, check_destination, write_records
from quoit.reranker import Reranker
from quoit.search import VectorCache, nearest, rerank
from quoit.text.prompts import Separator
from quoit.text.tokenizer import Truncation

if TYPE_CHECKING:
    from quoit.cli.options import Commands

COSINE, P_YES, LOGIT = "cosine", "p_yes", "logit"
SHOWN = 10
CANDIDATES = 50
SHOWN_CHARACTERS = 100
SEPARATORS: dict[str, Separator] = {"line": "\n", "blank-line": "\n\n"}


def add_to(commands: "Commands") -> None:
    """Add the commands to the parser."""
    similarity = commands.add_parser("similarity", help="rank the texts of a file by similarity to a query")
    similarity.add_argument("query")
    similarity.add_argument("file", help="texts to rank: a file, a folder, or - for standard input")
    similarity.set_defaults(run=run_similarity)

    search = commands.add_parser("search", help="find texts in files: nearest vectors, cached, then a reranker")
    search.add_argument("query")
    search.add_argument("file", nargs="+", help="texts to search in: files, folders, or - for standard input")
    search.add_argument("--rerank", metavar="ARTIFACT", help="a rerank artifact that judges the nearest texts")
    search.add_argument(
        "--candidates", type=int, default=CANDIDATES, help=f"how many it judges (default: {CANDIDATES})"
    )
    search.add_argument("--cache", type=Path, help="where vectors are kept (default: the user's cache folder)")
    search.add_argument("--no-cache", action="store_true", help="keep no vectors")
    search.set_defaults(run=run_search)

    judge = commands.add_parser("rerank", help="rank the texts of a file by how well they answer a query")
    judge.add_argument("file", help="texts to rank: a file, a folder, or - for standard input")
    judge.add_argument("--query", required=True)
    judge.add_argument(
        "--separator",
        choices=SEPARATORS,
        default="line",
        help="between instruction, query and document (default: line)",
    )
    judge.add_argument("--logit", action="store_true", help="show logit(yes) - logit(no) instead of P(yes)")
    judge.set_defaults(run=run_rerank)

    for parser, variable in ((similarity, MODEL_VARIABLE), (search, MODEL_VARIABLE), (judge, RERANKER_VARIABLE)):
        add_input(parser)
        parser.add_argument("--instruction", help="the task, instead of the checkpoint's own")
        parser.add_argument("--top", type=int, help=f"how many (default: {SHOWN} shown, all written)")
        parser.add_argument("-o", "--output", type=Path, help="write the ranking to a .jsonl or .parquet file too")
        add_model(parser, variable)


@dataclass(frozen=True)
class Place:
    """A text in the ranking, with its scores by their names."""

    item: Item
    figures: dict[str, float]


def run_similarity(options: argparse.Namespace) -> int:
    """Run `quoit similarity`, and return its exit code."""
    check(options)
    inputs = load(options, [options.file])
    items = inputs.items
    embedder = Embedder(model_of(options), **run_options(options).arguments())
    start = time.perf_counter()
    documents = embedder.encode_document([item.text for item in items], show_progress=sys.stderr.isatty())
    query = embedder.encode_query(options.query, instruction=options.instruction)
    hits = nearest(query, documents, options.top)
    seconds = time.perf_counter() - start
    places = [Place(items[hit.index], {COSINE: hit.cosine}) for hit in hits]
    publish(places, [COSINE], options, inputs)
    tell(f"{len(items)} texts in {seconds:.2f} s")
    inputs.report()
    return 0


def run_search(options: argparse.Namespace) -> int:
    """Run `quoit search`, and return its exit code."""
    check(options)
    if options.candidates < 1:
        raise InputError(f"--candidates {options.candidates} finds nothing; use a number from 1 on")
    if options.cache is not None and options.cache.exists() and not options.cache.is_dir():
        raise InputError(f"--cache {options.cache} is a file; name a folder, or use --no-cache")
    inputs = load(options, options.file)
    items = inputs.items
    texts = [item.text for item in items]
    embedder = Embedder(model_of(options), **run_options(options).arguments())
    reranker = open_judge(options) if options.rerank else None
    start = time.perf_counter()
    cache = cache_of(options)
    files = ([item.text for item in found] for found in inputs.files.values())
    documents = np.concatenate([vectors_of(embedder, found, cache) for found in files])
    query = embedder.encode_query(options.query, instruction=options.instruction)
    top = options.top or SHOWN
    hits = nearest(query, documents, top if reranker is None else max(options.candidates, top))
    if reranker is not None:
        hits = rerank(options.query, texts, hits, reranker, top, instruction=options.instruction)
    seconds = time.perf_counter() - start
    places = []
    for hit in hits:
        judged = {} if hit.score is None else {P_YES: hit.score}
        places.append(Place(items[hit.index], {**judged, COSINE: hit.cosine}))
    publish(places, [COSINE] if reranker is None else [P_YES, COSINE], options, inputs)
    tell(f"{len(texts)} texts of {len(inputs.files)} files in {seconds:.2f} s")
    inputs.report()
    return 0


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


def vectors_of(embedder: Embedder, texts: list[str], cache: VectorCache | None) -> Float32:
    """Return the vectors of a file's texts, from the cache if there is one."""
    if cache is not None:
        return cache.documents(embedder, texts, show_progress=sys.stderr.isatty())
    vectors: Float32 = embedder.encode_document(texts, show_progress=sys.stderr.isatty())
    return vectors


def run_rerank(options: argparse.Namespace) -> int:
    """Run `quoit rerank`, and return its exit code."""
    check(options)
    inputs = load(options, [options.file])
    items = inputs.items
    reranker = Reranker(model_of(options), **run_options(options).arguments())
    start = time.perf_counter()
    with tqdm(total=len(items), unit=" pairs", disable=None) as bar:
        windows = reranker.score_windows(
            ((options.query, item.text) for item in items),
            instruction=options.instruction,
            separator=SEPARATORS[options.separator],
            advance=bar.update,
        )
        scored = list(windows)
    seconds = time.perf_counter() - start
    logits = np.concatenate([np.empty(0, np.float32), *(window.logits for window in scored)])
    name = LOGIT if options.logit else P_YES
    scores = logits if options.logit else activate(logits, "sigmoid")
    order = best_first(logits, options.top).tolist()
    places = [Place(items[index], {name: float(scores[index])}) for index in order]
    publish(places, [name], options, inputs)
    tokens = sum(window.tokens for window in scored)
    cut = sum((window.truncation for window in scored), Truncation()).describe(reranker.pipeline.tokenizer.max_tokens)
    choice = reranker.pipeline.session.choice
    tell(
        f"{len(items)} texts, {tokens} tokens with the query, in {seconds:.2f} s ({tokens / seconds:,.0f} tokens/s, "
        f"{choice.precision} on {choice.provider}){cut and ', '}{cut}"
    )
    inputs.report()
    return 0


def check(options: argparse.Namespace) -> None:
    """Refuse options whose result could not be shown or written, before any work is done.

    Raises:
        InputError: --top is below 1, the query or instruction is not text, or --output cannot be written.
    """
    check_argument("the query", options.query)
    check_argument("--instruction", options.instruction)
    if options.top is not None and options.top < 1:
        raise InputError(f"--top {options.top} shows nothing; use a number from 1 on")
    if options.output is not None:
        check_destination(options.output, RECORD_SUFFIXES)


def publish(places: Sequence[Place], names: Sequence[str], options: argparse.Namespace, inputs: Inputs) -> None:
    """Print the first texts of a ranking as a table with the named scores, and write all of it to --output."""
    several = inputs.several
    show("  ".join(["rank", *(f"{name:>7}" for name in names), *(["file"] if several else []), "item", "text"]))
    for rank, place in enumerate(places[: options.top or SHOWN], 1):
        figures = [f"{place.figures[name]:7.3f}" for name in names]
        where = [printable(place.item.file)] if several else []
        show("  ".join([f"{rank:4}", *figures, *where, f"{place.item.index + 1:4}", one_line(place.item.text)]))
    if options.output is not None:
        records = [
            {
                "rank": rank,
                "file": printable(place.item.file),
                "index": place.item.index,
                **place.figures,
                "text": place.item.text,
            }
            for rank, place in enumerate(places, 1)
        ]
        columns = {"rank": int, "file": str, "index": int, **dict.fromkeys(names, float), "text": str}
        write_records(options.output, records, columns)
        tell(f"{options.output}: {len(records)} lines")


def printable(file: str) -> str:
    """Return a file's name, with bytes that are not UTF-8 replaced."""
    return file.encode(errors="surrogateescape").decode(errors="replace")


def one_line(text: str) -> str:
    """Return a text as one printable line of bounded length."""
    line = "".join(character if character.isprintable() else " " for character in text[:SHOWN_CHARACTERS])
    return line + ("…" if len(text) > SHOWN_CHARACTERS else "")
