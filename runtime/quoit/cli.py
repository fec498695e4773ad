"""The command `quoit`."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from tqdm import tqdm

from quoit.artifact import Precision, read_artifact
from quoit.doctor import examine
from quoit.embedder import Embedder
from quoit.errors import InputError, QuoitError
from quoit.files import KINDS, STANDARD_INPUT, VectorWriter, read_texts
from quoit.machine import usable_cores
from quoit.pooling import Dtype
from quoit.prompts import document_prompt, query_prompt
from quoit.session import ProviderRequest

FAILED = 1
USAGE_ERROR = 2
INTERRUPTED = 130
MODEL_VARIABLE = "QUOIT_MODEL"
SHOWN_CHARACTERS = 100
MOST_WORKERS = 8


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    options = make_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except (QuoitError, OSError) as error:
        print(f"quoit: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("quoit: interrupted, no output was written", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(prog="quoit", description="Qwen3 embeddings on ONNX Runtime.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_embed(commands)
    _add_similarity(commands)
    _add_info(commands)
    _add_doctor(commands)
    return parser


def _add_embed(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    embed = commands.add_parser("embed", help="turn the texts of a file into vectors")
    embed.add_argument("file", nargs="?", default=STANDARD_INPUT, help="texts to embed (default: standard input)")
    embed.add_argument("-o", "--output", type=Path, required=True, help="a .npy, .parquet or .jsonl file")
    _add_input(embed)
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
    _add_model(embed)
    embed.add_argument(
        "--workers", type=int, help=f"batches computed at a time (default: one a core, {MOST_WORKERS} at most)"
    )
    embed.set_defaults(run=run_embed)


def _add_similarity(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    similarity = commands.add_parser("similarity", help="rank the texts of a file by similarity to a query")
    similarity.add_argument("query")
    similarity.add_argument("file", help="texts to rank, or - for standard input")
    _add_input(similarity)
    similarity.add_argument("--instruction", help="the task to put before the query")
    similarity.add_argument("--top", type=int, default=10, help="how many to show (default: 10)")
    _add_model(similarity)
    similarity.set_defaults(run=run_similarity)


def _add_info(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    info = commands.add_parser("info", help="what an artifact holds")
    info.add_argument("artifact")
    info.set_defaults(run=run_info)


def _add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    doctor = commands.add_parser("doctor", help="check an artifact on this machine")
    doctor.add_argument("artifact")
    doctor.add_argument("--precision", choices=get_args(Precision))
    doctor.add_argument("--provider", choices=get_args(ProviderRequest), default="auto")
    doctor.set_defaults(run=run_doctor)


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input-format", choices=KINDS, help="default: the file's suffix, txt for -")
    parser.add_argument("--column", default="text", help="the text's column or key (default: text)")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m",
        "--model",
        default=os.environ.get(MODEL_VARIABLE),
        help=f"the artifact folder (default: the environment variable {MODEL_VARIABLE})",
    )
    parser.add_argument("--precision", choices=get_args(Precision))
    parser.add_argument("--provider", choices=get_args(ProviderRequest), default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--max-tokens", type=int, help="cut longer texts to so many tokens")


def _load(options: argparse.Namespace, workers: int = 1) -> Embedder:
    if not options.model:
        raise InputError(f"no artifact was named; use --model FOLDER, or set {MODEL_VARIABLE}")
    return Embedder(
        options.model,
        precision=options.precision,
        provider=options.provider,
        threads=options.threads,
        max_tokens=options.max_tokens,
        workers=workers,
    )


def run_embed(options: argparse.Namespace) -> int:
    """`quoit embed`."""
    texts = read_texts(options.file, kind=options.input_format, column=options.column)
    with VectorWriter(options.output) as writer:
        workers = min(options.threads or usable_cores(), MOST_WORKERS) if options.workers is None else options.workers
        embedder = _load(options, workers)
        prompts = embedder.contract.prompts
        if options.query or options.instruction is not None:
            prompt = query_prompt(prompts, options.instruction)
        else:
            prompt = "" if options.plain else document_prompt(prompts)
        start = time.perf_counter()
        count = tokens = truncated = 0
        with tqdm(unit=" texts", disable=None) as bar:
            windows = embedder.encode_windows(
                texts,
                advance=bar.update,
                prompt=prompt,
                dim=options.dim,
                dtype=options.dtype,
                normalize=not options.no_normalize,
                ranges=None if options.ranges is None else _load_ranges(options.ranges),
            )
            for encoded in windows:
                writer.write(encoded.vectors)
                count += len(encoded.vectors)
                tokens += encoded.tokens
                truncated += encoded.truncated
    seconds = time.perf_counter() - start
    choice = embedder.pipeline.session.choice
    cut = f", {truncated} cut to {embedder.pipeline.tokenizer.max_tokens} tokens" if truncated else ""
    print(
        f"{options.output}: {count} vectors of {tokens} tokens in {seconds:.2f} s ({tokens / seconds:,.0f} tokens/s, "
        f"{choice.precision} on {choice.provider}){cut}",
        file=sys.stderr,
    )
    return 0


def _load_ranges(file: Path) -> np.ndarray:
    try:
        with file.open("rb") as source:
            ranges: np.ndarray = np.lib.format.read_array(source, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{file} is no readable .npy file: {error}; make it with calibration_ranges") from error
    return ranges


def run_similarity(options: argparse.Namespace) -> int:
    """`quoit similarity`."""
    if options.top < 1:
        raise InputError(f"--top {options.top} shows nothing; use a number from 1 on")
    texts = list(read_texts(options.file, kind=options.input_format, column=options.column))
    embedder = _load(options)
    start = time.perf_counter()
    documents = embedder.encode_document(texts, show_progress=sys.stderr.isatty())
    scores = documents @ embedder.encode_query(options.query, instruction=options.instruction)
    seconds = time.perf_counter() - start
    ranked = np.argsort(-scores, kind="stable")[: options.top]
    print("rank   score  line  text")
    for rank, index in enumerate(ranked, 1):
        print(f"{rank:4}  {scores[index]:6.3f}  {index + 1:4}  {_one_line(texts[index])}")
    print(f"{len(texts)} texts in {seconds:.2f} s", file=sys.stderr)
    return 0


def _one_line(text: str) -> str:
    """A text as one printable line of bounded length."""
    line = "".join(character if character.isprintable() else " " for character in text[:SHOWN_CHARACTERS])
    return line + ("…" if len(text) > SHOWN_CHARACTERS else "")


def run_info(options: argparse.Namespace) -> int:
    """`quoit info`."""
    manifest = read_artifact(options.artifact).manifest
    numbers = manifest.architecture
    revision = f" at {manifest.source.revision}" if manifest.source.revision else ""
    print(f"{options.artifact}: {manifest.task} model from {manifest.source.id}{revision}, by {manifest.created_by}")
    print(
        f"  {numbers.num_hidden_layers} layers, {numbers.hidden_size} dimensions (use {manifest.min_dim} to "
        f"{numbers.hidden_size}), {manifest.max_tokens:,} tokens, vocabulary {numbers.vocab_size:,}"
    )
    for name, prompt in manifest.prompts.items():
        print(f"  {name} prompt {json.dumps(prompt, ensure_ascii=False)}")
    for name, variant in manifest.variants.items():
        size = sum(record.bytes for record in variant.files) / 1e6
        measured = "; ".join(
            f"cosine to {parity.reference} {parity.cosine_mean:.6f} on average, {parity.cosine_min:.6f} at least"
            for parity in variant.parity
        )
        print(f"  {name:5} {size:9,.1f} MB  {measured}{'' if variant.accepted else '  REJECTED'}".rstrip())
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """`quoit doctor`."""
    artifact = read_artifact(options.artifact)
    healthy = True
    for finding in examine(artifact, options.precision, options.provider):
        print(f"{'ok  ' if finding.holds else 'FAIL'}  {finding.name}: {finding.detail}", flush=True)
        healthy = healthy and finding.holds
    return 0 if healthy else FAILED


if __name__ == "__main__":
    sys.exit(main())
