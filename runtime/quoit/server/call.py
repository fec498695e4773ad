"""Define what is known of a request besides its body, and what its log line says at the end."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quoit.engine.scheduled import Answered, Waiting
from quoit.engine.scheduler import Lane
from quoit.server.refusals import RequestError, wrong

LANES: dict[str, Lane] = {"query": "query", "bulk": "bulk"}
MAX_PRIORITY = 1 << 31
PATIENCE = {"x-stainless-read-timeout": 1.0, "x-stainless-timeout": 1.0, "x-quoit-deadline-ms": 0.001}
"""Headers that say how long a client waits, and the seconds of their unit."""


@dataclass(frozen=True)
class Dialect:
    """How one kind of clients wants its errors.

    Attributes:
        name: name for the log.
        error: function that makes the body of an error.
        statuses: statuses by the code of a refusal, or by its status, where the dialect has others.
    """

    name: str
    error: Callable[[RequestError, "Call"], Any]
    statuses: Mapping[str | int, int] = field(default_factory=dict)

    def status(self, refusal: RequestError) -> int:
        """Return the status of a refusal in this dialect."""
        by_status = self.statuses.get(refusal.status, refusal.status)
        return by_status if refusal.code is None else self.statuses.get(refusal.code, by_status)


@dataclass
class Call:
    """A request on its way.

    Attributes:
        id: id of the request, given or made.
        route: path of the endpoint, without what callers wrote.
        headers: the request's headers, lower case.
        owner: on whose account it is: the name of its key, or its connection.
        sharing: what it shares computations with; see `quoit.engine.scheduled.Waiting`.
        timeout: seconds that its client waits for the answer; None if it does not say.
        max_wait: seconds that it waits at most until it begins to run.
        dialect: the dialect of its errors.
        path_model: name of the model in the path, if it has one.
        answered: what the engine did for it, one for each batch of texts that was submitted.
        texts: number of its texts.
        reply_headers: more headers of the answer.
    """

    id: str
    route: str
    headers: Mapping[str, str]
    owner: str
    sharing: str
    timeout: float | None
    max_wait: float
    dialect: Dialect
    path_model: str | None = None
    answered: list[Answered] = field(default_factory=list)
    texts: int = 0
    reply_headers: dict[str, str] = field(default_factory=dict)
    arrived: float = field(default_factory=time.monotonic)

    def waiting(self, priority: int | None) -> Waiting:
        """Return how the request waits its turn.

        Raises:
            RequestError: a header is not understood, or the priority is out of bounds.
        """
        name = self.headers.get("x-quoit-lane")
        if name is not None and name not in LANES:
            raise wrong(f"x-quoit-lane {name[:80]!r} is unknown; use query or bulk", "x-quoit-lane")
        if priority is not None and abs(priority) > MAX_PRIORITY:
            raise wrong(f"priority {priority} is out of bounds; use a small number, lower goes first", "priority")
        lane = None if name is None else LANES[name]
        if lane is None and priority:
            lane = "query" if priority < 0 else "bulk"
        left = None if self.timeout is None else self.timeout - (time.monotonic() - self.arrived)
        return Waiting(
            lane=lane,
            timeout=left,
            patience=self.max_wait,
            priority=priority or 0,
            owner=self.owner,
            sharing=self.sharing,
        )


def timeout(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds a client waits for an answer; None if it does not say.

    OpenAI's clients say it in seconds: the one of Python in `x-stainless-read-timeout`, the one of JavaScript in
    `x-stainless-timeout`.
    """
    found = []
    for name, unit in PATIENCE.items():
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 < seconds < math.inf:
            found.append(seconds)
    return min(found, default=None)
