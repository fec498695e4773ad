"""Run `quoit bench`: measure how fast an artifact is on this machine, and find its fastest setting."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec
import numpy as np
from tqdm import tqdm

from quoit.artifact import Artifact, EmbeddingContract, Precision
from quoit.cli.inputs import load
from quoit.cli.options import add_input
from quoit.cli.process import show, tell
from quoit.engine.profile import Setting, tuning_folder
from quoit.errors import InputError
from quoit.files.atomic import replacing
from quoit.files.writers import check_destination
from quoit.hub.opening import open_model
from quoit.ort.providers import ProviderRequest
from quoit.text.prompts import document_prompt, join_pairs, query_prompt, rerank_prompt
from quoit.tuning.autotune import MIN_TEXTS, Measured, Texts, tune

if TYPE_CHECKING:
    from quoit.cli.options import Commands

SECONDS = 60.0
MIN_SECONDS, MAX_SECONDS = 1.0, 86_400.0
MADE_TEXTS = 1_000
MEDIAN_WORDS, SIGMA, SHORTEST, LONGEST = 45, 0.9, 3, 380
SINGLE_WORDS = (4, 16)
WORDS = (
    *("the", "of", "light", "water", "over", "stone", "measure", "when", "harbour", "evening", "letter", "which"),
    *("found", "between", "green", "market", "under", "because", "winter", "people", "garden", "through", "paper"),
    *("sound", "yellow", "seven", "another", "bridge", "morning", "without", "river", "answer"),
)


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    bench = commands.add_parser("bench", help="how fast an artifact is here, and its best setting for --tuned")
    bench.add_argument("artifact")
    bench.add_argument("--texts", metavar="FILE", help="your own texts (default: made-up ones of log-normal length)")
    add_input(bench)
    bench.add_argument("--precision", choices=get_args(Precision))
    bench.add_argument("--provider", choices=get_args(ProviderRequest), default="auto")
    bench.add_argument("--seconds", type=float, default=SECONDS, help=f"about how long (default: {SECONDS:.0f})")
    bench.add_argument(
        "-o", "--output", type=Path, help="the tuning file, .json (default: where --tuned finds it on this machine)"
    )
    bench.add_argument("--json", action="store_true", help="print the result as one line of JSON at the end")
    bench.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `quoit bench`, and return its exit code."""
    if not MIN_SECONDS <= options.seconds <= MAX_SECONDS:
        raise InputError(f"--seconds {options.seconds} must be from {MIN_SECONDS:.0f} to {MAX_SECONDS:,.0f}")
    check_tuning_file(options.output)
    artifact = open_model(options.artifact, options.precision, options.provider)
    many = made_texts() if options.texts is None else own_texts(options)
    if len(many) < MIN_TEXTS:
        raise InputError(f"{options.texts} has {len(many)} texts, {MIN_TEXTS} are needed; name a longer file")
    with tqdm(bar_format="{desc} ({elapsed})", leave=False, disable=None) as bar:
        measured = tune(
            artifact,
            rendered(artifact, many),
            precision=options.precision,
            provider=options.provider,
            seconds=options.seconds,
            told=bar.set_description_str,
        )
    file = options.output or measured.tuning.place.file()
    show_measured(measured)
    if options.json:
        show(json.dumps(msgspec.to_builtins(measured) | {"file": str(file)}))
    content = msgspec.json.format(msgspec.json.encode(measured.tuning), indent=2) + b"\n"
    with replacing(file, len(content)) as draft:
        draft.write_bytes(content)
    use = "--tuned" if file == measured.tuning.place.file() else f"--tuning {file}"
    tell(f"{file}: written; {use} runs with it")
    return 0


def check_tuning_file(output: Path | None) -> None:
    """Check that the result can be written, before anything is measured.

    Args:
        output: the tuning file, or None for the one in the user's cache folder; that folder is made if it is missing.

    Raises:
        InputError: the file cannot be written.
    """
    if output is None:
        output = tuning_folder() / "any.json"
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder of tuning files: {error}; name a file with --output") from error
    check_destination(output, (".json",))


def made_texts() -> list[str]:
    """Make seeded texts of log-normal length, with random words."""
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(np.log(MEDIAN_WORDS), SIGMA, MADE_TEXTS), SHORTEST, LONGEST).astype(int)
    return [" ".join(generator.choice(WORDS, length)) for length in lengths]


def own_texts(options: argparse.Namespace) -> list[str]:
    """Read the texts of --texts."""
    inputs = load(options, [options.texts])
    inputs.report()
    return [item.text for item in inputs.items]


def rendered(artifact: Artifact, many: Sequence[str]) -> Texts:
    """Return the texts to run: documents and made-up queries; for reranking, the documents with one made-up query."""
    generator = np.random.default_rng(1)
    queries = [" ".join(generator.choice(WORDS, count)) for count in generator.integers(*SINGLE_WORDS, len(many))]
    contract = artifact.manifest.contract
    if isinstance(contract, EmbeddingContract):
        prompts = document_prompt(contract.prompts), query_prompt(contract.prompts, None)
        return Texts(many, queries, *prompts)
    pairs = [(queries[0], text) for text in many]
    texts = list(join_pairs(pairs, "\n"))
    return Texts(texts, texts, *[rerank_prompt(contract.instruction, "\n")] * 2)


def show_measured(measured: Measured) -> None:
    """Print the result."""
    tuning = measured.tuning
    place = tuning.place
    show(f"{place.processor}, {place.cores} cores, {place.onnxruntime}: {place.precision} on {place.provider}")
    speed = f"{measured.tokens_per_second:,.0f} tokens/s, {measured.times_default:.2f} × the default"
    show(f"  many texts    {speed}; {worded(tuning.throughput)}")
    times = ", ".join(f"{name} {value:.2f}" for name, value in measured.milliseconds.items())
    show(f"  one text      {times} ms; {worded(tuning.latency)}")
    show(f"  kernels       {measured.kernels}")
    if measured.ceilings is not None and measured.fraction is not None:
        ceilings = measured.ceilings
        rates = (
            f"{ceilings.int8:,.0f} int8 and {ceilings.fp32:,.0f} float32 operations, {ceilings.bandwidth:,.0f} bytes"
        )
        show(f"  this machine  {rates} a nanosecond at most; many texts reach {measured.fraction:.0%} of that")


def worded(setting: Setting) -> str:
    """Return a setting in words."""
    batches = "1 batch" if setting.workers == 1 else f"{setting.workers} batches"
    waiting = "" if setting.spinning else ", threads that sleep while they wait"
    return f"{setting.threads} threads, {batches} at a time, of {setting.batch_tokens:,} tokens{waiting}"
