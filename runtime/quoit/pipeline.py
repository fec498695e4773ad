"""Token ids to states in input order: the part that embedding and reranking have in common."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from quoit.artifact import Artifact, Precision, Task, read_artifact
from quoit.batches import Batch, Limits, plan_batches
from quoit.errors import ArtifactError, InputError
from quoit.machine import usable_cores
from quoit.session import ProviderName, ProviderRequest, Session, States, choose
from quoit.tokens import TextTokenizer

LIMITS: dict[ProviderName, Limits] = {
    "cpu": Limits(stream_tokens=512, rectangle_tokens=2048, tiled_from=385),
    "cuda": Limits(stream_tokens=32_768, rectangle_tokens=65_536, tiled_from=1),
}
"""Default limits of a batch. On a CPU larger batches gain a few percent and cost memory, and attention in tiles
overtakes the full score matrix near 350 tokens; see bench/LOG.md."""

LEAST_SHARED_TOKENS = 64
"""Matrix products on fewer rows than this are slow for a token."""

BATCHES_AHEAD = 2
MOST_THREADS = 1 << 10
MIN_TOKENS = 2
"""A text's first token and the end token."""

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Pipeline:
    """An artifact's tokenizer and session, how large a batch may be, and how many run at a time."""

    artifact: Artifact
    tokenizer: TextTokenizer
    session: Session
    limits: Limits
    workers: int = 1

    @classmethod
    def load(
        cls,
        path: str | Path | Artifact,
        task: Task,
        *,
        precision: Precision | None = None,
        provider: ProviderRequest = "auto",
        threads: int | None = None,
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        workers: int = 1,
    ) -> Self:
        """Opens an artifact for a task; the arguments are those of `quoit.Embedder`."""
        artifact = path if isinstance(path, Artifact) else read_artifact(path)
        manifest = artifact.manifest
        if manifest.task != task:
            raise ArtifactError(f"{artifact.folder} is a {manifest.task} artifact, not {task}; use another one")
        longest = check_number("max_tokens", max_tokens, MIN_TOKENS, manifest.max_tokens) or manifest.max_tokens
        choice = choose(artifact, provider, precision)
        limits = LIMITS[choice.provider]
        tokens = check_number("batch_tokens", batch_tokens, 1, 1 << 20)
        if tokens is not None:
            ratio = limits.rectangle_tokens // limits.stream_tokens
            limits = replace(limits, stream_tokens=tokens, rectangle_tokens=ratio * tokens)
        tokenizer = TextTokenizer.load(
            artifact.verify(manifest.tokenizer),
            max_tokens=longest,
            end_token_id=manifest.end_token_id,
            vocab_size=manifest.architecture.vocab_size,
        )
        threads = check_number("threads", threads, 1, MOST_THREADS) or usable_cores()
        check_number("workers", workers, 1, threads)
        session = Session(artifact, choice, threads=threads // workers)
        return cls(artifact, tokenizer, session, limits, workers)

    def run(self, rows: Sequence[Sequence[int]], advance: Advance) -> States:
        """The state of each row of ids, [n, hidden] float32, in the order of the rows.

        Args:
            rows: token ids, none empty.
            advance: told after each batch how many rows it answered.
        """
        states: States = np.empty((len(rows), self.artifact.manifest.architecture.hidden_size), np.float32)
        for batch, found in self._run_batches(rows):
            states[batch.texts] = found[batch.output_row]
            advance(len(batch.texts))
        return states

    def _run_batches(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[Batch, States]]:
        if self.workers == 1:
            for batch in plan_batches(rows, self.limits):
                yield batch, self.session.run(batch)
            return
        # Few tokens are shared out, so that no worker stands idle.
        share = max(sum(map(len, rows)) // self.workers, LEAST_SHARED_TOKENS)
        limits = replace(self.limits, stream_tokens=min(self.limits.stream_tokens, share))
        running: deque[tuple[Batch, Future[States]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for batch in plan_batches(rows, limits):
                    running.append((batch, pool.submit(self.session.run, batch)))
                    if len(running) > BATCHES_AHEAD * self.workers:
                        first, states = running.popleft()
                        yield first, states.result()
                for batch, states in running:
                    yield batch, states.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def check_number(name: str, value: int | None, least: int, most: int) -> int | None:
    """The value itself, when it is None or a whole number within bounds.

    Raises:
        InputError: it is not.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} {value!r} must be a whole number from {least} to {most}")
    return value
