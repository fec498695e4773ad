"""Send requests at times that are fixed in advance, or as clients that wait for each answer, and record each of them.

Latency counts from the scheduled time. A request that is sent late, since the server keeps the generator or its
connections waiting, has waited for that time too; a generator that counted from the sending would omit it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from bench.studies.serving.wire import LostError, Pool, RefusedError, Timing

Outcome = Literal["answered", "rejected", "failed", "gave up", "lost", "refused"]
"""What became of a request: status 2xx; 429 or 503; another status; the client left; the connection ended before the
answer; no connection."""
REJECTIONS = (429, 503)
FOREVER = 600.0
"""Seconds that a client waits by default: those of OpenAI's own clients."""


@dataclass(frozen=True)
class Job:
    """A request to be sent.

    Attributes:
        message: the whole request.
        texts: number of its texts.
        tokens: number of their tokens.
        patience: seconds from the scheduled time until the client gives up and closes the connection.
        kind: name for the records.
    """

    message: bytes
    texts: int = 1
    tokens: int = 0
    patience: float = FOREVER
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What happened to a request. Times are seconds of the event loop's clock.

    Attributes:
        kind: the job's.
        texts: the job's.
        tokens: the job's.
        patience: the job's.
        scheduled: time at which it was to be sent.
        sent: time at which it was; None if it never was.
        first_byte: time of the answer's first byte; None if there was none.
        done: time of the last byte, or of the end.
        status: HTTP status; 0 if there was no answer.
        outcome: see Outcome.
    """

    kind: str
    texts: int
    tokens: int
    patience: float
    scheduled: float
    sent: float | None
    first_byte: float | None
    done: float
    status: int
    outcome: Outcome

    @property
    def latency(self) -> float:
        """Seconds from the scheduled time."""
        return self.done - self.scheduled


async def perform(pool: Pool, job: Job, scheduled: float) -> Record:
    """Send a request now, and return what happened to it."""
    loop, timing = asyncio.get_running_loop(), Timing()
    status, outcome = 0, "answered"
    try:
        async with asyncio.timeout_at(scheduled + job.patience):
            status = (await pool.send(job.message, timing)).status
        if status in REJECTIONS:
            outcome = "rejected"
        elif status >= 300:
            outcome = "failed"
    except TimeoutError:
        outcome = "gave up"
    except LostError:
        outcome = "lost"
    except RefusedError:
        outcome = "refused"
    times = (scheduled, timing.sent, timing.first_byte, loop.time())
    return Record(job.kind, job.texts, job.tokens, job.patience, *times, status, outcome)  # type: ignore[arg-type]


async def open_loop(pool: Pool, jobs: Iterable[tuple[float, Job]]) -> list[Record]:
    """Send each job so many seconds after the start, whatever the answers do, and wait for all of them."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    tasks = []
    for offset, job in jobs:
        due = start + offset
        await asyncio.sleep(max(due - loop.time(), 0))
        tasks.append(asyncio.create_task(perform(pool, job, due)))
    return list(await asyncio.gather(*tasks))


async def closed_loop(pool: Pool, jobs: Iterable[Job], clients: int = 1) -> list[Record]:
    """Send jobs as so many clients do that wait for each answer before they send the next request."""
    loop, left = asyncio.get_running_loop(), iter(jobs)

    async def client() -> list[Record]:
        return [await perform(pool, job, loop.time()) for job in left]

    found = await asyncio.gather(*(client() for _ in range(clients)))
    return [record for each in found for record in each]


class Stop:
    """Ends what is sent in a stream."""

    def __init__(self) -> None:
        self.set = False


def every(seconds: float, make: Callable[[], Job], lasting: float | Stop) -> Iterator[tuple[float, Job]]:
    """Yield a job for each interval, for so many seconds or until a stop is set."""
    number = 0
    while not lasting.set if isinstance(lasting, Stop) else number * seconds < lasting:
        yield number * seconds, make()
        number += 1


def until(make: Callable[[], Job], lasting: float) -> Iterator[Job]:
    """Yield jobs for so many seconds, one at least."""
    ends = asyncio.get_running_loop().time() + lasting
    yield make()
    while asyncio.get_running_loop().time() < ends:
        yield make()


@asynccontextmanager
async def beside(pool: Pool, seconds: float, make: Callable[[], Job]) -> AsyncIterator[list[Record]]:
    """Send jobs at an interval beside other work; the records are there afterwards."""
    stop, records = Stop(), list[Record]()
    sending = asyncio.create_task(open_loop(pool, every(seconds, make, stop)))
    try:
        yield records
    finally:
        stop.set = True
        records += await sending
