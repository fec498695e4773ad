"""Answer texts on an event loop: tokenize in threads, wait for the scheduler, finish in threads."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from quoit.artifact import Task
from quoit.engine.pipeline import Pipeline
from quoit.engine.scheduler import Lane, Request, Scheduler, Terms
from quoit.errors import DeadlineError
from quoit.ort.session import Answers
from quoit.text.prompts import Prompt
from quoit.text.tokenizer import TokenRows, Truncation

TOKENIZER_THREADS = 2
QUERY_TOKENS: dict[Task, int] = {"embedding": 256, "rerank": 2000}
"""Maximum number of tokens of a request that counts as a query though its caller did not say so, by task."""

RERANK_PRIORITY = -1
"""Default priority of large rankings: somebody waits for them, unlike for other bulk work."""
INLINE_CHARACTERS = 4096
"""Maximum number of characters that the event loop tokenizes by itself, which takes less time than a thread's turn."""
TOKEN_CHARACTERS = 4
"""About how many characters a token has; what is refused before tokenization is judged by it."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How a call waits its turn.

    Attributes:
        lane: `query` for what somebody waits for, `bulk` for what counts by throughput; by default, a call with few
            tokens is a query.
        timeout: seconds after which the answer is of no use; None for none.
        patience: seconds until the call should begin to run; None for as many as `timeout`. A call for which a longer
            wait is foreseen is refused at once.
        priority: lower goes first within a lane.
        owner: on whose account it is; owners share the bulk lane by tokens.
        sharing: calls with the same value may share a batch and the computation of equal texts.
    """

    lane: Lane | None = None
    timeout: float | None = None
    patience: float | None = None
    priority: int = 0
    owner: str = ""
    sharing: str = ""

    def terms(self, tokens: int, task: Task, started: float) -> Terms:
        """Return the terms for a request of so many tokens."""
        lane: Lane = ("query" if tokens <= QUERY_TOKENS[task] else "bulk") if self.lane is None else self.lane
        deadline = math.inf if self.timeout is None else started + self.timeout
        patience = math.inf if self.patience is None else self.patience
        priority = RERANK_PRIORITY if not self.priority and (task, lane) == ("rerank", "bulk") else self.priority
        return Terms(lane, deadline, patience, priority, self.owner, self.sharing)


WAITING = Waiting()


@dataclass(frozen=True)
class Answered:
    """Answers to texts, in their order, with counts and times.

    Attributes:
        answers: [n, hidden] states or [n] scores, float32.
        tokens: number of tokens of the texts, including those around them, before sharing of prefixes.
        truncation: counts of the texts that were cut and of the tokens that they lost.
        lane: the lane that they waited in.
        tokenize_seconds: seconds of tokenization.
        queue_seconds: seconds until the first of them began to run.
        compute_seconds: seconds of the batches that answered them.
    """

    answers: Answers
    tokens: int
    truncation: Truncation
    lane: Lane
    tokenize_seconds: float
    queue_seconds: float
    compute_seconds: float


Delivery = tuple[asyncio.Future[Answers], Future[Answers]]
"""Who waits, and what was finished."""


class Deliveries:
    """Hands what the scheduler's threads finish to event loops: each is woken once for all that is ready."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ready: dict[asyncio.AbstractEventLoop, list[Delivery]] = {}

    async def wait(self, request: Request) -> Answers:
        """Return the answers of a request; a caller that is cancelled cancels it."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answers] = loop.create_future()
        request.future.add_done_callback(lambda done: self._put(loop, waiter, done))
        try:
            return await waiter
        finally:
            request.future.cancel()  # nothing happens if it is done

    def _put(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[Answers], done: Future[Answers]) -> None:
        with self._lock:
            first = loop not in self._ready
            self._ready.setdefault(loop, []).append((waiter, done))
        if first:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
                loop.call_soon_threadsafe(self._deliver, loop)

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            ready = self._ready.pop(loop)
        for waiter, done in ready:
            if waiter.done():
                continue
            if done.cancelled():
                waiter.cancel()
            elif (error := done.exception()) is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(done.result())


class ScheduledModel:
    """A loaded model on an event loop.

    Attributes:
        pipeline: tokenizer, session and batching.
        scheduler: the scheduler that runs the model; it may run others too.
    """

    def __init__(self, pipeline: Pipeline, scheduler: Scheduler) -> None:
        self.pipeline = pipeline
        self.scheduler = scheduler
        self._deliveries = Deliveries()
        self._pool = ThreadPoolExecutor(TOKENIZER_THREADS, thread_name_prefix="quoit-texts")

    async def apart(self, function: Callable[..., T], *arguments: object) -> T:
        """Return the result of a function that runs in a thread of this model."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def answer(self, texts: Sequence[str], prompt: Prompt, waiting: Waiting = WAITING) -> Answered:
        """Return the answers to checked texts that follow a prompt.

        A call that is cancelled gives up its place: texts that nobody else waits for are not computed.

        Raises:
            OverloadedError: the answers would come after the timeout, or too many tokens are queued.
            DeadlineError: they did not come before the timeout.
            InputError: the tokenizer cannot encode a text, or the model was closed.
            ComputeError: the model cannot run a text.
        """
        return await self.answer_rows(await self.tokenize(texts, prompt, waiting), prompt, waiting)

    async def tokenize(
        self, texts: Sequence[str], prompt: Prompt, waiting: Waiting = WAITING, max_tokens: int | None = None
    ) -> "Tokenized":
        """Return the token ids of checked texts that follow a prompt, at most `max_tokens`; see `TextTokenizer.encode`.

        Raises:
            OverloadedError: the answers would come too late; this is foreseen from the number of characters.
            InputError: the tokenizer cannot encode a text.
        """
        started = time.monotonic()
        rendered = list(prompt.render(texts))
        characters = sum(map(len, rendered))
        terms = waiting.terms(characters // TOKEN_CHARACTERS, self.pipeline.artifact.manifest.task, started)
        self.scheduler.check(self.pipeline, characters // TOKEN_CHARACTERS, terms)
        encode = self.pipeline.tokenizer.encode
        inline = characters <= INLINE_CHARACTERS
        rows = encode(rendered, max_tokens) if inline else await self.apart(encode, rendered, max_tokens)
        return Tokenized(rows, started, time.monotonic() - started)

    async def answer_rows(self, tokenized: "Tokenized", prompt: Prompt, waiting: Waiting = WAITING) -> Answered:
        """Return the answers to rows of token ids; see `answer`."""
        rows = tokenized.rows
        tokens = sum(map(len, rows.ids))
        terms = waiting.terms(tokens, self.pipeline.artifact.manifest.task, tokenized.started)
        left = None if terms.deadline == math.inf else terms.deadline - time.monotonic()
        try:
            if left is not None and left <= 0:
                raise TimeoutError
            request = self.scheduler.submit(self.pipeline, rows.ids, terms, prompt.text)
            async with asyncio.timeout(left):
                answers = await self._deliveries.wait(request)
        except TimeoutError as error:
            raise DeadlineError(
                f"{len(rows.ids):,} texts were not done in time; try again later, send fewer, or wait longer"
            ) from error
        return Answered(
            answers,
            tokens,
            rows.truncation,
            terms.lane,
            tokenized.seconds,
            request.queue_seconds,
            request.compute_seconds,
        )

    def close(self) -> None:
        """End the threads of this model; the scheduler and the model stay."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Tokenized:
    """Token ids of texts, the time when tokenization began (`time.monotonic`), and the seconds that it took."""

    rows: TokenRows
    started: float
    seconds: float

    @classmethod
    def at_once(cls, rows: TokenRows) -> "Tokenized":
        """Return rows that needed no tokenization."""
        return cls(rows, time.monotonic(), 0.0)
