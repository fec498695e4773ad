"""Define what is known of a request besides its body, and what its log line says at the end."""

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
        patience: seconds that it waits at most.
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
    patience: float
    dialect: Dialect
    path_model: str | None = None
    answered: list[Answered] = field(default_factory=list)
    texts: int = 0
    reply_headers: dict[str, str] = field(default_factory=dict)

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
        return Waiting(lane=lane, timeout=self.patience, priority=priority or 0, owner=self.owner, sharing=self.sharing)


def patience(headers: Mapping[str, str], max_wait: float) -> float:
    """Return how many seconds a request waits: what its client bears, and the server's limit at most.

    OpenAI's clients say how long they wait for an answer, in seconds: the one of Python in `x-stainless-read-timeout`,
    the one of JavaScript in `x-stainless-timeout`.
    """
    found = max_wait
    for name, unit in PATIENCE.items():
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if seconds > 0:
            found = min(found, seconds)
    return found
