"""Define what is scheduled: requests, and the distinct rows of token ids that they wait for."""

import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from quoit.engine.pipeline import Pipeline
from quoit.engine.planner import Row
from quoit.ort.session import Answers

Lane = Literal["query", "bulk"]
"""Lanes of the queue: someone waits for a query; the throughput of bulk counts, and not the single text."""


@dataclass(frozen=True)
class Terms:
    """How a request waits its turn.

    Attributes:
        lane: the lane of its rows.
        deadline: time until which answers are of use, in seconds of `time.monotonic`; rows are dropped after it.
        patience: seconds until the rows should begin to run; rows for which more is foreseen are refused.
        priority: lower goes first within a lane.
        owner: the caller on whose account a bulk request is; owners share the bulk lane by tokens.
        sharing: requests with the same value may share a batch, and the computation of equal rows.
    """

    lane: Lane = "bulk"
    deadline: float = math.inf
    patience: float = math.inf
    priority: int = 0
    owner: str = ""
    sharing: str = ""


@dataclass(frozen=True)
class Group:
    """Rows that may run in one batch.

    Attributes:
        pipeline: the model that answers them.
        prompt: the prompt that they begin with.
        sharing: `Terms.sharing` of their requests.
        model: the identity of the pipeline, which is what is compared.
    """

    pipeline: Pipeline = field(compare=False)
    prompt: str
    sharing: str
    model: int


class Request:
    """Rows that were submitted together, and their answers as they come.

    Attributes:
        terms: how the request waits.
        future: holds the answers, [n, *answer_shape] float32, when all are there. Cancelling it drops the rows that
            nobody else waits for.
        submitted: time of submission, in seconds of `time.monotonic`.
        started: time when the first row began to run; None before that.
        compute_seconds: seconds of the runs that answered it.
    """

    def __init__(self, rows: int, answer_shape: tuple[int, ...], terms: Terms) -> None:
        self.terms = terms
        self.future: Future[Answers] = Future()
        self.submitted = time.monotonic()
        self.started: float | None = None
        self.compute_seconds = 0.0
        self._answers: Answers = np.empty((rows, *answer_shape), np.float32)
        self._missing = rows
        if not rows:
            self._finish()

    @property
    def queue_seconds(self) -> float:
        """Return the seconds from submission until the first row began to run."""
        return (time.monotonic() if self.started is None else self.started) - self.submitted

    @property
    def gone(self) -> bool:
        """Return whether nobody waits any more: the request was cancelled, failed or answered."""
        return self.future.done()

    def answer(self, position: int, answer: Answers) -> None:
        """Take the answer to one row; the last one completes the future."""
        self._answers[position] = answer
        self._missing -= 1
        if not self._missing:
            self._finish()

    def fail(self, error: Exception) -> None:
        """Give the future an error, if somebody still waits for it."""
        if not self.gone and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def _finish(self) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self._answers)


Key = tuple[Group, bytes]
"""What makes two rows one: the group and the token ids."""


class Cell:
    """A distinct row in flight, and who waits for its answer.

    Attributes:
        key: see Key.
        ids: the token ids.
        lane: the lane that it waits in.
        running: True from the time when it was taken from its lane.
        arrival: number of its arrival in the bulk lane, which it keeps when it is put back; None before that.
        waiters: requests, and the position of the row in each.
    """

    __slots__ = ("arrival", "ids", "key", "lane", "running", "waiters")

    def __init__(self, key: Key, ids: Row, lane: Lane) -> None:
        self.key = key
        self.ids = ids
        self.lane = lane
        self.running = False
        self.arrival: int | None = None
        self.waiters: list[tuple[Request, int]] = []

    @property
    def group(self) -> Group:
        """Return the rows that this one may run with."""
        return self.key[0]

    @property
    def tokens(self) -> int:
        """Return the number of token ids."""
        return len(self.ids)

    @property
    def request(self) -> Request | None:
        """Return the request that brought it; None if nobody waits for it."""
        return self.waiters[0][0] if self.waiters else None

    @property
    def wanted(self) -> bool:
        """Return whether somebody still waits for the answer."""
        return any(not request.gone for request, _ in self.waiters)
