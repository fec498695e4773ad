"""Run `quoit similarity`, `quoit search` and `quoit rerank`: rank the texts of files, best first."""

import argparse
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
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
from quoit.files.chunks import Chunking
from quoit.files.kept import ID
from quoit.files.readers import KINDS, Record
from quoit.files.readers.records import Part
from quoit.files.stored import Row, StoredVectors, open_stored
from quoit.files.writers import RECORD_SUFFIXES, check_destination, write_records
from quoit.reranker import Reranker
from quoit.search import Hit, VectorCache, check_stored, nearest, nearest_stored, rerank
from quoit.text.prompts import Separator
from quoit.text.tokenizer import Truncation

if TYPE_CHECKING:
    from quoit.cli.options import Commands

COSINE, P_YES, LOGIT = "cosine", "p_yes", "logit"
SHOWN = 10
CANDIDATES = 50
SHOWN_CHARACTERS = 100
CHUNK = 256
"""Number of tokens that documents are cut to."""
CHUNKED = ("md", "html", "pdf", "code")
"""Formats of documents; a line of txt is a text of its own."""
PASSAGE_LINES = 4
BEGINNING = PASSAGE_LINES + 1
"""How many lines of a passage are looked at, to tell whether it goes on."""
WIDTH, MIN_WIDTH = 120, 40
INDENT = " " * 6
SEPARATORS: dict[str, Separator] = {"line": "\n", "blank-line": "\n\n"}


def add_to(commands: "Commands") -> None:
    """Add the commands to the parser."""
    similarity = commands.add_parser("similarity", help="rank the texts of a file by similarity to a query")
    similarity.add_argument("query")
    similarity.add_argument("file", help="texts to rank: a file, a folder, or - for standard input")
    similarity.set_defaults(run=run_similarity)

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
    publish(places, [COSINE], options, several=inputs.several)
    tell(f"{len(items)} texts in {seconds:.2f} s")
    inputs.report()
    return 0


def run_search(options: argparse.Namespace) -> int:
    """Run `quoit search`, and return its exit code."""
    check_search(options)
    stored = {source: found for source in options.file if (found := open_stored(source)) is not None}
    inputs = load(options, [source for source in options.file if source not in stored], tree=True)
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
    publish(places, [COSINE] if reranker is None else [P_YES, COSINE], options, several=several, documents=True)
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
    precision, ours = stored.about.get("precision"), embedder.pipeline.session.choice.precision
    if precision != ours:
        tell(f"{stored.path} has vectors of {precision}, and the query's is of {ours}")


def stored_item(stored: StoredVectors, hit: Hit, row: Row, column: str) -> Item:
    """Return the text of a stored row, or its other columns if it has none; and where it stands in its document."""
    others = {name: value for name, value in row.items() if name not in (ID, "file", "line", "page")}
    text = row.get(column)
    if not isinstance(text, str):
        text = ", ".join(f"{name}: {value}" for name, value in others.items() if value is not None)
    file = row["file"] if isinstance(row.get("file"), str) else stored.path
    line, page = (value if isinstance(value := row.get(name), int) else 0 for name in ("line", "page"))
    title = row.get("title")
    part = Part(text, title if isinstance(title, str) else "", line, page) if line or page else None
    return Item(file, hit.index, Record(text, f"{stored.path}, row {hit.index + 1}", part=part), row.get(ID))


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
    publish(places, [name], options, several=inputs.several)
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


def publish(
    places: Sequence[Place],
    names: Sequence[str],
    options: argparse.Namespace,
    *,
    several: bool,
    documents: bool = False,
) -> None:
    """Print the first texts of a ranking with the named scores, and write all of it to --output.

    Args:
        places: the ranking, best first.
        names: names of the scores.
        options: options of the command.
        several: True to name each text's file.
        documents: True to name the lines and pages of documents, and to print their passages below.
    """
    parts = documents and any(place.item.record.part is not None for place in places)
    several = several or parts
    place_names = ["file"] if parts else [*(["file"] if several else []), "item", "text"]
    show("  ".join(["rank", *(f"{name:>7}" for name in names), *place_names]))
    for rank, place in enumerate(places[: options.top or SHOWN], 1):
        figures = [f"{place.figures[name]:7.3f}" for name in names]
        show("  ".join([f"{rank:4}", *figures, *_columns(place.item, several=several, parts=parts)]))
        if parts:
            show("\n".join(passage(place.item.record)))
    if options.output is not None:
        records = [_record(rank, place, parts) for rank, place in enumerate(places, 1)]
        columns: dict[str, type] = {"rank": int, "file": str, "index": int}
        columns |= {"line": int, "page": int} if parts else {}
        columns |= {**dict.fromkeys(names, float), "text": str}
        write_records(options.output, records, columns)
        tell(f"{options.output}: {len(records)} lines")


def _columns(item: Item, *, several: bool, parts: bool) -> list[str]:
    """Return what a line of the ranking says of a text beside its scores."""
    if not parts:
        return [*([printable(item.file)] if several else []), f"{item.index + 1:4}", one_line(item.text)]
    part = item.record.part
    where = printable(item.where if part is not None else f"{item.file}, item {item.index + 1}")
    return [where, *([one_line(part.title)] if part is not None and part.title else [])]


def _record(rank: int, place: Place, parts: bool) -> dict[str, object]:
    """Return what is written of a text of the ranking."""
    item = place.item
    record: dict[str, object] = {"rank": rank, "file": printable(item.file), "index": item.index}
    if parts:
        part = item.record.part
        record |= {"line": part.line or None if part else None, "page": part.page or None if part else None}
    return {**record, **place.figures, "text": item.text}


def passage(record: Record) -> list[str]:
    """Return the beginning of a passage as indented printable lines of bounded number and width.

    Lines of code stay apart, and others are joined.
    """
    part = record.part
    body = record.text if part is None else part.body
    prose = part is not None and bool(part.title)
    lines = [" ".join(body.split())] if prose else [line for line in body.expandtabs(4).split("\n") if line.strip()]
    width = min(max(shutil.get_terminal_size((WIDTH, 0)).columns, MIN_WIDTH), WIDTH) - len(INDENT)
    folded = [
        part
        for line in lines[:BEGINNING]
        for part in textwrap.wrap(
            "".join(character if character.isprintable() else " " for character in line[: BEGINNING * width]),
            width,
            drop_whitespace=False,
        )
    ]
    more = len(folded) > PASSAGE_LINES
    return [(INDENT + line).rstrip() for line in folded[:PASSAGE_LINES]] + ([f"{INDENT}…"] if more else [])


def printable(file: str) -> str:
    """Return a file's name, with bytes that are not UTF-8 replaced."""
    return file.encode(errors="surrogateescape").decode(errors="replace")


def one_line(text: str) -> str:
    """Return a text as one printable line of bounded length."""
    line = "".join(character if character.isprintable() else " " for character in text[:SHOWN_CHARACTERS])
    return line + ("…" if len(text) > SHOWN_CHARACTERS else "")
