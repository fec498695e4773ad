"""Run `quoit embed`: turn the texts of a file into a file of vectors."""

import argparse
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from tqdm import tqdm

from quoit.cli.inputs import report_skipped, stream
from quoit.cli.options import MODEL_VARIABLE, add_input, add_model, check_argument, model_of, run_options
from quoit.cli.process import tell
from quoit.embedder import Embedder
from quoit.engine.pooling import Dtype, OutputOptions, Vectors
from quoit.errors import InputError
from quoit.files.kept import VECTOR, OutputColumns
from quoit.files.partial_output import NPY, SUFFIXES, Draft, drafting, is_finished
from quoit.files.readers import STANDARD_INPUT, Record, Skipped
from quoit.files.writers import LANCE, About, check_destination
from quoit.fingerprint import digest
from quoit.machine import usable_cores
from quoit.text.prompts import NO_PROMPT, Prompt, document_prompt, query_prompt

if TYPE_CHECKING:
    from quoit.cli.options import Commands

MAX_WORKERS = 8


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    embed = commands.add_parser("embed", help="turn the texts of a file into vectors")
    embed.add_argument(
        "file",
        nargs="?",
        default=STANDARD_INPUT,
        help="texts to embed: a file, or a folder's files in the order of their paths (default: standard input)",
    )
    embed.add_argument(
        "-o", "--output", type=Path, required=True, help="a .npy, .parquet, .jsonl file or .lance dataset"
    )
    begin = embed.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="go on where the same command was interrupted")
    begin.add_argument(
        "--restart", action="store_true", help="start anew, and discard the vectors of a run that was not finished"
    )
    add_input(embed)
    embed.add_argument("--id", metavar="COLUMN", help="the input's column of ids (default: the rows' numbers from 0)")
    embed.add_argument(
        "--keep",
        metavar="COLUMN",
        nargs="+",
        default=[],
        help="columns of the input to write beside the vectors; text, title, file, line, page of documents",
    )
    embed.add_argument(
        "--vector-column", metavar="NAME", default=VECTOR, help=f"name of the vectors' column (default: {VECTOR})"
    )
    role = embed.add_mutually_exclusive_group()
    role.add_argument("--query", action="store_true", help="the texts are queries: put the query prompt before them")
    role.add_argument("--plain", action="store_true", help="put no prompt before the texts (default: document prompt)")
    embed.add_argument("--instruction", help="the task to put before queries; implies --query")
    embed.add_argument("--dim", type=int, help="keep the first DIM dimensions")
    embed.add_argument("--dtype", choices=get_args(Dtype), default="float32", help="type of the values")
    embed.add_argument(
        "--ranges", type=Path, help="a .npy file [2, DIM] of least and greatest values, for int8 and uint8"
    )
    embed.add_argument("--no-normalize", action="store_true", help="leave the vectors' lengths as they are")
    add_model(embed, MODEL_VARIABLE)
    embed.add_argument(
        "--workers", type=int, help=f"batches computed at a time (default: one a core, {MAX_WORKERS} at most)"
    )
    embed.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `quoit embed`, report the result, and return the exit code."""
    check_destination(options.output, SUFFIXES)
    check_argument("--instruction", options.instruction)
    if options.skip_missing and options.output.suffix == NPY:
        raise InputError(
            f"--skip-missing leaves rows out, and {options.output} has no ids that say which; write .jsonl or .parquet"
        )
    if options.resume and is_finished(options.output):
        tell(
            f"{options.output} exists, and there is no interrupted run to go on with; nothing was done; use --restart "
            "to make it anew"
        )
        return 0
    skipped = Skipped()
    columns = _columns(options)
    records, kept = stream(options, options.file, skipped, columns)
    workers = options.workers
    if workers is None and not options.tuned and options.tuning is None:
        workers = min(options.threads or usable_cores(), MAX_WORKERS)
    embedder = Embedder(model_of(options), **replace(run_options(options), workers=workers).arguments())
    prompt = _prompt(embedder, options)
    output = OutputOptions(
        dim=options.dim,
        dtype=options.dtype,
        normalize=not options.no_normalize,
        ranges=None if options.ranges is None else _load_ranges(options.ranges),
    )
    like = embedder.encode([], **output)
    job = digest(_job(embedder, prompt, output, like), columns.id, columns.keep)
    start = time.perf_counter()
    with drafting(options.output, job, like, kept, resume=options.resume, restart=options.restart) as draft:
        _fill(draft, embedder, records, prompt, output)
        draft.left_out = skipped.rows
        draft.about = _about(embedder, prompt, output)
    _report(draft, embedder, options.output, time.perf_counter() - start, skipped)
    return 0


def _columns(options: argparse.Namespace) -> OutputColumns:
    """Return the columns of the output.

    Raises:
        InputError: the output has no columns, or the names are wrong.
    """
    for name, values in (
        ("--id", [options.id]),
        ("--keep", options.keep),
        ("--vector-column", [options.vector_column]),
    ):
        for value in values:
            check_argument(name, value)
    columns = OutputColumns(options.id, tuple(options.keep), options.vector_column)
    if options.output.suffix == NPY and columns != OutputColumns():
        raise InputError(f"{options.output} has vectors alone; write .parquet, .lance or .jsonl for --id and --keep")
    wrong = next((name for name in (*columns.keep, columns.vector) if "." in name or name.startswith("_row")), None)
    if options.output.suffix == LANCE and wrong is not None:
        raise InputError(f"Lance cannot have a column {wrong!r}; write .parquet, or rename the column")
    return columns


def _job(embedder: Embedder, prompt: Prompt, output: OutputOptions, like: Vectors) -> str:
    """Return the hash of all that decides the vectors, except the texts; `like` is [0, dim]."""
    return digest(embedder.fingerprint(prompt.text), {**output, "ranges": _listed(output)}, like.shape)


def _listed(output: OutputOptions) -> list[list[float]] | None:
    """Return the ranges of 8-bit values as lists, [2, dim]; None if there are none."""
    ranges = output["ranges"]
    return None if ranges is None else np.asarray(ranges, np.float32).tolist()


def _about(embedder: Embedder, prompt: Prompt, output: OutputOptions) -> About:
    """Return what a `.parquet` file says of its vectors."""
    source = embedder.pipeline.artifact.manifest.source
    return {
        "model": source.id,
        "revision": source.revision,
        "precision": embedder.pipeline.session.choice.precision,
        "dim": embedder.dim if output["dim"] is None else output["dim"],
        "dtype": output["dtype"],
        "normalize": output["normalize"],
        "ranges": _listed(output),
        "prompt": prompt.text,
        "fingerprint": embedder.fingerprint(prompt.text),
    }


def _fill(draft: Draft, embedder: Embedder, records: Iterable[Record], prompt: Prompt, output: OutputOptions) -> None:
    with tqdm(unit=" texts", initial=draft.progress.rows, disable=None) as bar:
        windows = embedder.encode_windows(draft.remaining(records), prompt=prompt.text, advance=bar.update, **output)
        for encoded in windows:
            draft.write(encoded.vectors, encoded.tokens, encoded.truncation)


def _report(draft: Draft, embedder: Embedder, output: Path, seconds: float, skipped: Skipped) -> None:
    """Print the totals of the whole run; the speed counts only the texts since it was resumed."""
    done, choice = draft.progress, embedder.pipeline.session.choice
    resumed = f", {draft.resumed.rows:,} of them before" if draft.resumed.rows else ""
    speed = (done.tokens - draft.resumed.tokens) / seconds
    cut = done.truncation.describe(embedder.pipeline.tokenizer.max_tokens)
    tell(
        f"{output}: {done.rows} vectors{resumed}, of {done.tokens} tokens, in {seconds:.2f} s ({speed:,.0f} tokens/s, "
        f"{choice.precision} on {choice.provider}){cut and ', '}{cut}"
    )
    report_skipped(skipped)


def _prompt(embedder: Embedder, options: argparse.Namespace) -> Prompt:
    prompts = embedder.contract.prompts
    if options.query or options.instruction is not None:
        return query_prompt(prompts, options.instruction)
    return NO_PROMPT if options.plain else document_prompt(prompts)


def _load_ranges(file: Path) -> np.ndarray:
    try:
        with file.open("rb") as source:
            ranges: np.ndarray = np.lib.format.read_array(source, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{file} is no readable .npy file: {error}; make it with calibration_ranges") from error
    return ranges
