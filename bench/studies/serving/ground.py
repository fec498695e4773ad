"""What scenarios work with: a running server, requests to it, texts, and a watch over its health and memory."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from bench.environments import UnavailableError
from bench.studies.serving.figures import Figures, Sample, counters, latencies, memory, spread, summary
from bench.studies.serving.load import Job, Record, Stop, beside, closed_loop, until
from bench.studies.serving.process import Server
from bench.studies.serving.systems import Requests
from bench.studies.serving.texts import Text, Texts
from bench.studies.serving.wire import Pool, request
from bench.studies.turns import Process, Work

HEALTH_SECONDS = 0.1
"""Interval of the questions for health."""
SAMPLE_SECONDS = 0.25
"""Interval of the samples of memory."""
REST_SECONDS = 0.5
"""Seconds in which a server that has nothing to do takes next to no processor time."""
MOST_REST_SECONDS = 20.0
CALIBRATION_CLIENTS = 32
CALIBRATION_SHARE = 1 / 6
"""Share of a scenario's seconds that finding out what a server bears takes."""
Vectors = np.typing.NDArray[np.float32]


@dataclass
class Ground:
    """A running server and what is sent to it.

    Attributes:
        server: the process.
        requests: makes requests to it.
        texts: the texts.
        seconds: about how long a scenario takes.
        bulk_texts: number of texts of a bulk request.
        library: the same artifact in a process of its own, without a server; None for rivals.
        pool: connections of those who work.
        samples: resident memory since the start.
        found: results of earlier scenarios, by name.
    """

    server: Server
    requests: Requests
    texts: Texts
    seconds: float
    bulk_texts: int
    library: Process | None = None
    pool: Pool = field(init=False)
    samples: list[Sample] = field(default_factory=list)
    found: dict[str, Figures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pool = Pool("127.0.0.1", self.server.port)

    def query(self, patience: float = 600.0) -> Job:
        """The next query."""
        return self.requests.embed([self.texts.query()], "query", patience=patience, query=True)

    def documents(self, number: int, kind: str, patience: float = 600.0) -> Job:
        """The next documents in one request."""
        return self.requests.embed(self.texts.take(number), kind, patience=patience)

    def bulk(self) -> Job:
        """The next bulk request."""
        return self.documents(self.bulk_texts, "bulk")

    def ranking(self, number: int) -> Job:
        """The next query with documents to rank."""
        return self.requests.rerank(self.texts.query(), self.texts.take(number), "rerank")

    def single(self, text: Text) -> Job:
        """A text alone in its request."""
        return self.requests.embed([text], "single")

    async def capacity(self, texts: int = 1, clients: int = CALIBRATION_CLIENTS) -> Figures:
        """What the server bears: rates of clients that wait for each answer."""
        jobs = until(lambda: self.documents(texts, "capacity"), self.seconds * CALIBRATION_SHARE)
        return summary(await closed_loop(self.pool, jobs, clients))

    async def counters(self) -> dict[str, float]:
        """quoit's counters."""
        reply = await self.pool.send(request("/metrics"))
        return counters(reply.body.decode())

    async def rest(self) -> bool:
        """Wait until the server has nothing left to do, so that its processes take no time any more.

        Returns:
            False if they still do after MOST_REST_SECONDS.
        """
        begin = time.monotonic()
        while time.monotonic() - begin < MOST_REST_SECONDS:
            before = self.server.processor_seconds()
            await asyncio.sleep(REST_SECONDS)
            if self.server.processor_seconds() - before < REST_SECONDS / 10:
                return True
        return False

    async def ask_library(self, texts: Iterable[Text], *, query: bool = False) -> list[float]:
        """Seconds of the library's calls: one for each query, or one for all documents."""
        assert self.library is not None
        listed = list(texts)
        work = Work(
            [each.text for each in listed], [each.tokens for each in listed], "queries" if query else "documents"
        )
        return await asyncio.to_thread(self.library.ask, work)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Figures]:
        """Ask for health and sample memory beside a scenario; the figures are there afterwards."""
        found: Figures = {}
        pool, stop, first = Pool("127.0.0.1", self.server.port), Stop(), len(self.samples)
        sampling = asyncio.create_task(self._sample(stop))
        before, begin, mine = self.server.processor_seconds(), time.monotonic(), time.process_time()
        records: list[Record] = []
        try:
            async with beside(pool, HEALTH_SECONDS, self.requests.health) as records:
                yield found
        finally:
            stop.set = True
            await sampling
            pool.close()
            seconds = time.monotonic() - begin
            found["health_ms"] = spread(latencies(records))
            found["memory"] = memory(self.samples[first:])
            found["server_cores"] = round((self.server.processor_seconds() - before) / seconds, 3)
            found["generator_cores"] = round((time.process_time() - mine) / seconds, 3)

    async def _sample(self, stop: Stop) -> None:
        while not stop.set:
            self.samples.append((time.monotonic(), float(self.server.resident_bytes())))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def closeness(self, texts: list[Text], vectors: Vectors) -> float:
        """The least cosine of the server's vectors to these.

        Raises:
            UnavailableError: it answers with something else than vectors.
        """
        reply = await self.pool.send(self.requests.embed(texts, "check").message)
        if reply.status != 200:
            raise UnavailableError(f"the server answers {reply.status}: {reply.body[:300]!r}")
        rows = sorted(json.loads(reply.body)["data"], key=lambda each: int(each["index"]))
        found = np.array([each["embedding"] for each in rows], np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return float(np.sum(found * vectors, axis=1).min())
