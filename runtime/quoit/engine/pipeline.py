"""Texts to answers in input order: the part that embedding and reranking have in common."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, SupportsIndex, TypedDict, Unpack

import numpy as np

from quoit.arguments import check_number, flag
from quoit.artifact import Architecture, Artifact, Manifest, Precision, Task
from quoit.engine.planner import Batch, Limits, Row, plan_batches
from quoit.engine.prefetch import ahead
from quoit.engine.prefix_cache import MOST_TOKENS, KeptPrompts
from quoit.engine.profile import Goal, Setting, check_goal, read_tuning
from quoit.errors import InputError
from quoit.machine import usable_cores
from quoit.ort.cuda import free_bytes, stream_tokens
from quoit.ort.session import Answers, Choice, Kept, ProviderRequest, Session, choose
from quoit.text.tokenizer import TextTokenizer, Truncation, take_chunks

NEVER = 1 << 62
CPU_LIMITS = Limits(stream_tokens=512, rectangle_tokens=2048, tiled_from=385)
"""Larger batches gain a few percent and cost memory, and attention in tiles overtakes the full score matrix near 350
tokens; see bench/log/."""
CPU_RERANK_LIMITS = replace(CPU_LIMITS, stream_tokens=1024, rectangle_tokens=4096)
"""Rows that all begin alike gain from larger batches, since what they share is computed once in each."""

MOST_PADDING = 0.1
PADDED_TOKENS = 4096
"""On CUDA a batch more costs about what 600 positions do, a tenth of a batch little larger than these."""

LEAST_SHARED_TOKENS = 64
"""Matrix products on fewer rows than this are slow for a token."""

WINDOW_TEXTS = 2048
WINDOW_CHARACTERS = 8 << 20
"""Texts are taken in windows of at most so many texts and about so many characters, and sorted within."""

BATCHES_AHEAD = 2
MOST_THREADS = 1 << 10
MOST_BATCH_TOKENS = 1 << 20

Advance = Callable[[int], object]

logger = logging.getLogger("quoit")


class RunOptions(TypedDict, total=False):
    """How an artifact runs.

    Keys:
        precision: `fp32`, `fp16`, `bf16`, `int8` or `int4`; by default the fastest the provider runs: int8 on a CPU,
            fp16 on CUDA.
        provider: `cpu`, `cuda`, or `auto` for CUDA where onnxruntime offers it and the artifact has a graph for it.
        threads: by default one for each core this process may use.
        max_tokens: longer texts are cut to this many tokens, those that surround every text included; by default
            the model's limit. What was cut is logged as a warning of the logger `quoit`.
        batch_tokens: distinct tokens of one batch; by default what suits the provider, on CUDA up to 32,768 as memory
            allows, padding counted.
        workers: batches computed at a time, each on `threads // workers` threads; 1 by default. More of them give more
            throughput on many texts, and one text alone takes longer; on CUDA they gain nothing.
        cuda_graphs: on CUDA, answer a text of up to 256 tokens that comes alone by a captured run, which spares the
            launches of its kernels. The first text of each of five lengths takes longer, and runs go one at a time.
            On by default there.
        tuned: `latency` or `throughput`: threads, batch_tokens and workers that are not given are those `quoit bench`
            found best for it on this machine.
        tuning: the tuning file, instead of the one that `quoit bench` keeps; implies `throughput` without `tuned`.
    """

    precision: Precision | None
    provider: ProviderRequest
    threads: int | None
    max_tokens: int | None
    batch_tokens: int | None
    workers: int | None
    cuda_graphs: bool | None
    tuned: Goal | None
    tuning: str | Path | None


class Settings(TypedDict, total=False):
    """Those of `RunOptions` that a tuning can decide."""

    threads: SupportsIndex | None
    batch_tokens: SupportsIndex | None
    workers: SupportsIndex | None


@dataclass(frozen=True)
class Shares:
    """`Settings` as they are given; an option of another name is a TypeError."""

    threads: SupportsIndex | None = None
    batch_tokens: SupportsIndex | None = None
    workers: SupportsIndex | None = None

    def filled_in(self, tuned: Setting) -> "Shares":
        """The same, what is not given taken from a tuning; its workers do not fit another number of threads."""
        found = {name: getattr(tuned, name) for name in tuned.__struct_fields__}
        if self.threads is not None:
            del found["workers"]
        return Shares(**found | {name: value for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class Window:
    """The answers to consecutive texts, in input order, and what they took.

    Attributes:
        answers: [n, hidden] states or [n] scores, float32.
        tokens: the texts' tokens, those around them included, before sharing of prefixes.
        truncation: what was cut.
    """

    answers: Answers
    tokens: int
    truncation: Truncation


@dataclass(frozen=True)
class Pipeline:
    """An artifact's tokenizer and session, how large a batch may be, and how many run at a time.

    Where `overlapped`, the next window is read and tokenized, and the next batch planned, in a thread while one runs.
    """

    artifact: Artifact
    tokenizer: TextTokenizer
    session: Session
    limits: Limits
    prompts: KeptPrompts
    workers: int = 1
    overlapped: bool = False

    @classmethod
    def load(
        cls,
        artifact: Artifact,
        *,
        precision: Precision | None = None,
        provider: ProviderRequest = "auto",
        max_tokens: SupportsIndex | None = None,
        cuda_graphs: bool | None = None,
        tuned: Goal | None = None,
        tuning: str | Path | None = None,
        **settings: Unpack[Settings],
    ) -> Self:
        """Opens an artifact; the options are those of `RunOptions`.

        Raises:
            ArtifactError: it is damaged, or the variant was rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an option is out of bounds, or there is no tuning for this machine.
        """
        shares = Shares(**settings)
        choice = choose(artifact, provider, precision)
        if cuda_graphs is not None and flag("cuda_graphs", cuda_graphs) and choice.provider != "cuda":
            raise InputError(
                f"cuda_graphs {cuda_graphs!r} needs CUDA, and the provider here is {choice.provider!r} "
                f"({choice.provider_reason}); leave it out, or use provider='cuda'"
            )
        if tuned is not None or tuning is not None:
            goal = "throughput" if tuned is None else tuned
            check_goal(goal)
            shares = shares.filled_in(read_tuning(artifact, choice, tuning).setting(goal))
        tokens = shares.batch_tokens
        if tokens is not None:
            tokens = check_number("batch_tokens", tokens, 1, MOST_BATCH_TOKENS)
        file = artifact.verify(artifact.manifest.tokenizer)
        tokenizer = TextTokenizer.load(file, artifact.manifest, max_tokens=max_tokens)
        threads = usable_cores() if shares.threads is None else check_number("threads", shares.threads, 1, MOST_THREADS)
        workers = 1 if shares.workers is None else check_number("workers", shares.workers, 1, threads)
        captured = choice.provider == "cuda" if cuda_graphs is None else cuda_graphs
        session = Session(artifact, choice, threads=threads // workers, cuda_graphs=captured)
        limits = default_limits(choice, artifact.manifest)
        if tokens is not None:
            limits = with_budget(limits, tokens)
        prompts = KeptPrompts(session, tokenizer, longest=min(limits.tiled_from - 1, MOST_TOKENS))
        # A CPU that computes has no time to spare for it, see bench/log/.
        return cls(artifact, tokenizer, session, limits, prompts, workers, overlapped=choice.provider == "cuda")

    def windows(self, texts: Iterable[str], advance: Advance, prompt: str = "") -> Iterator[Window]:
        """The answers to rendered texts, in bounded memory.

        Where the iterable raises, the texts before that are answered first.

        Args:
            texts: with their prompts, as `quoit.text.prompts` renders them.
            advance: told after each batch how many texts it answered.
            prompt: what they all begin with.
        """
        self.session.fork_guard.check()
        encoded = map(self.tokenizer.encode, take_windows(texts))
        for rows in ahead(encoded) if self.overlapped else encoded:
            answers = self.run(rows.ids, advance, self.prompts.meet(prompt))
            yield Window(answers, sum(map(len, rows.ids)), rows.truncation)

    def run(self, rows: Sequence[Row], advance: Advance, kept: Kept | None = None) -> Answers:
        """The answer to each row of ids, [n, *answer_shape] float32, in the order of the rows.

        Args:
            rows: token ids, none empty.
            advance: told after each batch how many rows it answered.
            kept: a prefix that some of them begin with.
        """
        answers: Answers = np.empty((len(rows), *self.session.answer_shape), np.float32)
        for batch, found in self._run_batches(rows, kept):
            answers[batch.texts] = found[batch.output_row]
            advance(len(batch.texts))
        return answers

    def _run_batches(self, rows: Sequence[Row], kept: Kept | None) -> Iterator[tuple[Batch, Answers]]:
        prefix: Row = () if kept is None else kept.prefix
        if self.workers == 1:
            batches = plan_batches(rows, self.limits, prefix)
            for batch in ahead(batches) if self.overlapped else batches:
                yield batch, self.session.run(batch, kept)
            return
        # Few tokens are shared out, so that no worker stands idle.
        share = max(sum(map(len, rows)) // self.workers, LEAST_SHARED_TOKENS)
        limits = replace(self.limits, stream_tokens=min(self.limits.stream_tokens, share))
        running: deque[tuple[Batch, Future[Answers]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for batch in plan_batches(rows, limits, prefix):
                    running.append((batch, pool.submit(self.session.run, batch, kept)))
                    if len(running) > BATCHES_AHEAD * self.workers:
                        first, answers = running.popleft()
                        yield first, answers.result()
                for batch, answers in running:
                    yield batch, answers.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def report(self, truncation: Truncation, texts: int) -> None:
        """Logs a warning where some of the texts were cut."""
        if truncation.texts:
            logger.warning("of %d texts, %s", texts, truncation.describe(self.tokenizer.max_tokens))


def default_limits(choice: Choice, manifest: Manifest) -> Limits:
    """What one batch may hold on a provider; on CUDA, as much of a loaded model's batch as fits the free memory."""
    if choice.provider == "cpu":
        return cpu_limits(manifest.task, manifest.max_tokens)
    return cuda_limits(manifest.architecture, free_bytes())


def cuda_limits(numbers: Architecture, free: int) -> Limits:
    """What one batch may hold in so many bytes of device memory.

    CUDA's attention needs no tiles. Its graph has padding in every layer, and computes a shared prefix as often as it
    occurs.
    """
    tokens = stream_tokens(numbers, free)
    return Limits(tokens, tokens, NEVER, share_prefixes=False, most_padding=MOST_PADDING, padded_tokens=PADDED_TOKENS)


def cpu_limits(task: Task, max_tokens: int) -> Limits:
    """What one batch may hold on a CPU, for a task and a model of so many tokens."""
    return replace(CPU_LIMITS if task == "embedding" else CPU_RERANK_LIMITS, max_positions=max_tokens)


def row_limits(rows: Sequence[Row]) -> Limits:
    """CPU limits for rows of a graph whose max_tokens is unknown; the longest row stands for it."""
    return replace(CPU_LIMITS, max_positions=max(map(len, rows), default=0))


def with_budget(limits: Limits, tokens: int) -> Limits:
    """Limits with another budget of distinct tokens, and a rectangle in proportion."""
    ratio = limits.rectangle_tokens // limits.stream_tokens
    return replace(limits, stream_tokens=tokens, rectangle_tokens=ratio * tokens)


def take_windows(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in windows, as `quoit.text.tokenizer.take_chunks`."""
    return take_chunks(texts, most_texts=WINDOW_TEXTS, most_characters=WINDOW_CHARACTERS)
