"""Define what a request is refused with, before a dialect gives it its form."""

from dataclasses import dataclass, field

from quoit.errors import ComputeError, DeadlineError, InputError, OverloadedError, QuoitError, brief


@dataclass(eq=False)
class RequestError(Exception):
    """A request that gets an error.

    Attributes:
        status: the HTTP status.
        message: what is wrong and what to do.
        code: a name for programs; None if the status says it all.
        param: the field of the request that is wrong.
        headers: more headers of the answer.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


NO_RETRY = {"x-should-retry": "false"}
"""Header that tells OpenAI's clients that the same request would fail again."""


INVALID = "invalid_value"
"""Code of a value that the caller can change, where none says more."""
INTERNAL = "internal_error"
"""Code of errors that are neither the caller's nor foreseen."""
SERVER_ERROR = 500
STATUSES: tuple[tuple[type[Exception], int, str | None], ...] = (
    (DeadlineError, 504, "deadline_exceeded"),
    (InputError, 400, INVALID),
    (TypeError, 400, INVALID),
    (ComputeError, 500, "compute_error"),
    (QuoitError, 500, INTERNAL),
)
"""Statuses and codes of the engine's errors, the first kind that fits."""


def wrong(message: str, param: str | None = None, code: str = INVALID) -> RequestError:
    """Return the refusal of a value that the caller can change."""
    return RequestError(400, message, code, param)


def retry_after(seconds: float) -> dict[str, str]:
    """Return headers that say when to try again, in milliseconds for OpenAI's clients and in seconds for others."""
    milliseconds = max(round(seconds * 1000), 1)
    return {"retry-after-ms": str(milliseconds), "retry-after": str(-(-milliseconds // 1000))}


def refusal_of(error: Exception) -> RequestError:
    """Return the refusal for an error of the engine."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InputError) and "closed" in str(error):
        return RequestError(503, "the server is ending; try another one", "unavailable", headers=retry_after(1))
    if isinstance(error, OverloadedError):
        return RequestError(429, str(error), "overloaded", headers=retry_after(error.retry_after))
    for kind, status, code in STATUSES:
        if isinstance(error, kind):
            return RequestError(status, str(error), code, headers=NO_RETRY if status >= SERVER_ERROR else {})
    what = f"{type(error).__name__}: {brief(error)}"
    return RequestError(500, f"an error of this server ({what}); its log has more", INTERNAL)
