"""Run `quoit similarity` and `quoit rerank`: rank the texts of a file, best first."""

import argparse
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from quoit.cli.inputs import load
from quoit.cli.options import MODEL_VARIABLE, RERANKER_VARIABLE, model_of, run_options
from quoit.cli.process import tell
from quoit.cli.ranking import COSINE, LOGIT, P_YES, Place, add_ranking, check, publish
from quoit.embedder import Embedder
from quoit.engine.scoring import activate, best_first
from quoit.reranker import Reranker
from quoit.search import nearest
from quoit.text.prompts import Separator
from quoit.text.tokenizer import Truncation

if TYPE_CHECKING:
    from quoit.cli.options import Commands

SEPARATORS: dict[str, Separator] = {"line": "\n", "blank-line": "\n\n"}


def add_to(commands: "Commands") -> None:
    """Add the commands to the parser."""
    similarity = commands.add_parser("similarity", help="rank the texts of a file by similarity to a query")
    similarity.add_argument("query")
    similarity.add_argument("file", help="texts to rank: a file, a folder, or - for standard input")
    add_ranking(similarity, MODEL_VARIABLE)
    similarity.set_defaults(run=run_similarity)

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
    add_ranking(judge, RERANKER_VARIABLE)
    judge.set_defaults(run=run_rerank)


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
