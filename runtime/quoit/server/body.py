"""Read a request's body within limits of size and time, and refuse what is not plain JSON."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from quoit.server.refusals import RequestError
from quoit.server.settings import Settings

Message = dict[str, Any]
CLIENT_CLOSED = 499
"""Status in the log of a request whose client went away."""
DISCARDED_BYTES, DISCARDING_SECONDS = 64 << 20, 2.0
"""Limits of what is still read of a body that was refused: to close at once would lose the answer on its way."""


class Body:
    """The body of a request on its way.

    Attributes:
        complete: whether all of it was read.
    """

    def __init__(self, receive: Any, headers: Mapping[str, str], settings: Settings) -> None:
        """Take what an ASGI server gives.

        Args:
            receive: its function that returns the next message.
            headers: headers of the request.
            settings: the limits.
        """
        self.complete = "content-length" not in headers and "transfer-encoding" not in headers
        self._receive = receive
        self._length = headers.get("content-length", "0")
        self._settings = settings
        self._size = 0
        self._ends = time.monotonic() + settings.body_seconds

    def check_length(self) -> None:
        """Refuse a body that says itself that it is too large.

        Raises:
            RequestError: it does.
        """
        if self._length.isdigit() and int(self._length) > self._settings.max_body_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            RequestError: the body is too large or too slow, or the client went away; nobody sees that answer.
        """
        if self.complete:
            message: Message = await self._receive()
            return message
        try:
            async with asyncio.timeout(max(self._ends - time.monotonic(), 0.001)):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestError(
                408,
                f"the body did not arrive within {self._settings.body_seconds:g} s; send it faster",
                "body_timeout",
                headers={"connection": "close"},
            ) from error
        if message["type"] == "http.disconnect":
            self.complete = True
            raise RequestError(CLIENT_CLOSED, "the client went away before its body was complete", "client_closed")
        self._size += len(message.get("body", b""))
        if self._size > self._settings.max_body_bytes:
            raise self._too_large()
        self.complete = not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Read the rest, within limits."""
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARDING_SECONDS):
                while size < DISCARDED_BYTES:
                    message = await self._receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def _too_large(self) -> RequestError:
        return RequestError(
            413,
            f"the body has more than {self._settings.max_body_bytes:,} bytes; send fewer texts in one request",
            "body_too_large",
            headers={"connection": "close"},
        )


def check_form(headers: Mapping[str, str]) -> None:
    """Refuse bodies that are not plain JSON: a form of another site could send those without the browser asking.

    Raises:
        RequestError: the media type is another one, or the body is compressed.
    """
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise RequestError(415, f"content-type {media[:80]!r} is not JSON; use application/json", "media_type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "compressed bodies are refused; send the JSON as it is", "content_encoding")
