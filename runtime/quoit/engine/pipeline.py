"""Turn texts into answers in input order; embedding and reranking share this part."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from quoit.artifact import Artifact
from quoit.engine.layouts import Layout, find_layout
from quoit.engine.limits import default_limits, with_budget
from quoit.engine.options import Options
from quoit.engine.planner import Batch, Limits, Row, batch_of, plan_batches
from quoit.engine.prefetch import prefetch
from quoit.engine.prefix_cache import CachedPrefix, PrefixCache
from quoit.ort.graph_inputs import Inputs
from quoit.ort.kernels import Kernels
from quoit.ort.probe import choose_graph
from quoit.ort.session import Answers, Session
from quoit.text.prompts import Prompt
from quoit.text.tokenizer import TextTokenizer, Truncation, take_chunks

MIN_SHARED_TOKENS = 64
"""Minimum token budget of a batch when workers share few texts. Matrix products on fewer rows are slow per token."""

WINDOW_TEXTS = 2048
WINDOW_CHARACTERS = 8 << 20
"""Maximum texts and approximate characters of one window. Texts are sorted within their window."""

BATCHES_AHEAD = 2
FIRST_ROW = (0,)
"""Token ids of the run with which a session begins."""

Advance = Callable[[int], object]
"""Function for a progress bar; it is called with the number of texts that were answered."""

logger = logging.getLogger("quoit")


def ignore(_: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Window:
    """The answers to consecutive texts, in input order, with counts of their tokens and of truncation.

    Attributes:
        answers: [n, hidden] states or [n] scores, float32.
        tokens: number of tokens of the texts, including those around them, before sharing of prefixes.
        truncation: counts of the texts that were cut and of the tokens that they lost.
    """

    answers: Answers
    tokens: int
    truncation: Truncation


@dataclass(frozen=True)
class Pipeline:
    """An artifact's tokenizer and session, the limits of a batch, and the number of batches that run at a time.

    `kernels` are the native kernels that may run; `session.kernels` those that do. If `overlapped`, threads read and
    tokenize the next window and plan the next batch while one batch runs.
    """

    artifact: Artifact
    tokenizer: TextTokenizer
    session: Session
    layout: Layout
    limits: Limits
    prefix_cache: PrefixCache
    kernels: Kernels
    workers: int = 1
    overlapped: bool = False

    @classmethod
    def load(cls, artifact: Artifact, options: Options | None = None) -> Self:
        """Open an artifact.

        Raises:
            ArtifactError: the artifact is damaged, or the variant was rejected by its parity gate.
            ProviderError: onnxruntime or the provider asked for cannot run here.
            InputError: an option is out of bounds, or there is no tuning for this machine.
        """
        resolved = (options or Options()).resolve(artifact)
        choice = resolved.choice
        file = artifact.verify(artifact.manifest.tokenizer)
        tokenizer = TextTokenizer.load(file, artifact.manifest, max_tokens=resolved.max_tokens)
        kernels = resolved.kernels
        layout = find_layout(choose_graph(artifact, choice, kernels)[1].layout)
        session = Session(
            artifact,
            choice,
            layout.contract,
            threads=resolved.threads,
            cuda_graphs=resolved.cuda_graphs,
            spinning=resolved.spinning,
            kernels=kernels,
            first=layout.make_inputs(batch_of(FIRST_ROW)),
        )
        limits = default_limits(choice, artifact.manifest)
        if resolved.batch_tokens is not None:
            limits = with_budget(limits, resolved.batch_tokens)
        prefix_cache = PrefixCache(
            session,
            layout.prefix_caching,
            tokenizer,
            max_prompt_tokens=limits.untiled_tokens(tokenizer.max_tokens),
            max_tokens=resolved.prefix_cache_tokens,
        )
        # On a CPU, overlapping takes cores from the computation; see bench/log/.
        overlapped = choice.provider == "cuda"
        return cls(artifact, tokenizer, session, layout, limits, prefix_cache, kernels, resolved.workers, overlapped)

    def describe(self) -> str:
        """Return the model's name, its folder, precision and provider, in words."""
        choice = self.session.choice
        model = self.artifact.manifest.source.id
        return f"{model} in {self.artifact.folder}: {choice.precision} on {choice.provider}"

    def describe_kernels(self) -> str:
        """Return which native kernels run, or why none do, in words."""
        running, found = self.session.kernels, self.kernels
        if running is not None:
            return running.reason if self.session.graph == "native" else f"attention with {running.instructions}"
        if self.session.choice.provider != "cpu":
            return "none, they are for CPUs"
        if found.library is None:
            return f"none: {found.reason}"
        return "none: the artifact has no graph with them; export it again"

    def close(self) -> None:
        """Release the model; later runs are refused."""
        self.prefix_cache.clear()
        self.session.close()

    def windows(self, texts: Iterable[str], prompt: Prompt, advance: Advance = ignore) -> Iterator[Window]:
        """Yield the answers to texts that follow a prompt, in bounded memory.

        If the iterable raises, the answers to the texts before the error come first, then the error.

        Args:
            texts: checked texts.
            prompt: the text to put before each of them.
            advance: function that is called after each batch with the number of texts that it answered.
        """
        self.session.check()
        encoded = map(self.tokenizer.encode, take_windows(prompt.render(texts)))
        for rows in prefetch(encoded) if self.overlapped else encoded:
            answers = self.run(rows.ids, advance, self.prefix_cache.get(prompt.text))
            yield Window(answers, sum(map(len, rows.ids)), rows.truncation)

    def run(self, rows: Sequence[Row], advance: Advance, prefix: CachedPrefix | None = None) -> Answers:
        """Return the answer to each row of ids, [n, *answer_shape] float32, in the order of the rows.

        Args:
            rows: rows of token ids; no row is empty.
            advance: function that is called after each batch with the number of rows that it answered.
            prefix: a cached prefix that some of the rows begin with.
        """
        answers: Answers = np.empty((len(rows), *self.session.answer_shape), np.float32)
        for batch, found in self._run_batches(rows, prefix):
            answers[batch.texts] = found[batch.output_row]
            advance(len(batch.texts))
        return answers

    def _run_batches(self, rows: Sequence[Row], prefix: CachedPrefix | None) -> Iterator[tuple[Batch, Answers]]:
        if self.workers == 1:
            planned = self.plan(rows, self.limits, prefix)
            for batch, inputs in prefetch(planned) if self.overlapped else planned:
                yield batch, self.session.run(inputs)
            return
        # If there are few tokens, batches are smaller, so that every worker has work.
        share = max(sum(map(len, rows)) // self.workers, MIN_SHARED_TOKENS)
        limits = replace(self.limits, stream_tokens=min(self.limits.stream_tokens, share))
        running: deque[tuple[Batch, Future[Answers]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for batch, inputs in self.plan(rows, limits, prefix):
                    running.append((batch, pool.submit(self.session.run, inputs)))
                    if len(running) > BATCHES_AHEAD * self.workers:
                        first, answers = running.popleft()
                        yield first, answers.result()
                for batch, answers in running:
                    yield batch, answers.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def plan(self, rows: Sequence[Row], limits: Limits, prefix: CachedPrefix | None) -> Iterator[tuple[Batch, Inputs]]:
        """Yield the batches of some rows, each with its graph's inputs.

        Args:
            rows: rows of token ids; no row is empty.
            limits: the limits of one batch.
            prefix: a cached prefix that some of the rows begin with.
        """
        for batch in plan_batches(rows, limits, () if prefix is None else prefix.ids):
            past = prefix.past if prefix is not None and batch.prefix_tokens else {}
            yield batch, {**self.layout.make_inputs(batch), **past}

    def report(self, truncation: Truncation, texts: int) -> None:
        """Log a warning if some of the texts were cut."""
        if truncation.texts:
            logger.warning("of %d texts, %s", texts, truncation.describe(self.tokenizer.max_tokens))


def take_windows(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in windows, as `quoit.text.tokenizer.take_chunks` does."""
    return take_chunks(texts, max_texts=WINDOW_TEXTS, max_characters=WINDOW_CHARACTERS)
