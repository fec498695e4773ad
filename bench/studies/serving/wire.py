"""HTTP/1.1 over connections that are kept, with the times at which a request left and its answer came.

It reads what servers of JSON send: a length, chunks, or an end of the connection. It does not know what is asked.
"""

import asyncio
from dataclasses import dataclass
from typing import cast

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class RefusedError(Exception):
    """No connection was accepted, so the request never left."""


class LostError(Exception):
    """The connection ended before the whole answer had come."""


@dataclass
class Timing:
    """Times of a request, in seconds of the event loop's clock; None for what has not happened."""

    sent: float | None = None
    first_byte: float | None = None


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Connection(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self) -> None:
        self.open = True
        self.used = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._body_begins = self._body_ends = -1
        self._chunked = False
        self._timing = Timing()
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._timing.first_byte is None:
            self._timing.first_byte = self._loop.time()
        self._buffer += data
        if self._body_begins < 0:
            self._read_head()
        if self._is_complete():
            self._settle()

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        until_the_end = self._body_begins >= 0 and self._body_ends < 0 and not self._chunked
        if until_the_end and error is None:
            self._settle()
        elif self._answered is not None and not self._answered.done():
            self._answered.set_exception(LostError(str(error or "the server closed the connection")))

    async def exchange(self, message: bytes, timing: Timing) -> Reply:
        """Send a request and return its answer; a caller that is cancelled closes the connection."""
        assert self._transport is not None
        self._buffer.clear()
        self._body_begins = self._body_ends = -1
        self._chunked = False
        self._timing = timing
        self._answered = self._loop.create_future()
        timing.sent = self._loop.time()
        self._transport.write(message)
        try:
            await self._answered
        except BaseException:
            self.abort()
            raise
        finally:
            self.used = True
        return self._reply()

    def abort(self) -> None:
        """Close the connection at once, as a client does that gives up."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self) -> None:
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return
        self._body_begins = end + len(HEAD_END)
        headers = self._headers()
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        if length is not None:
            self._body_ends = self._body_begins + int(length)

    def _is_complete(self) -> bool:
        if self._body_begins < 0:
            return False
        if self._chunked:
            return self._buffer.endswith(LAST_CHUNK)
        return 0 <= self._body_ends <= len(self._buffer)

    def _settle(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _headers(self) -> dict[str, str]:
        lines = self._buffer[: self._body_begins].decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    def _reply(self) -> Reply:
        headers = self._headers()
        if headers.get("connection", "").lower() == "close":
            self.abort()
        body = bytes(self._buffer[self._body_begins :])
        if self._chunked:
            body = _joined(body)
        return Reply(int(self._buffer.split(b" ", 2)[1]), headers, body)


class Pool:
    """Connections to one server: as many as there are requests at a time, and each is used again.

    Attributes:
        opened: number of connections that were made.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.opened = 0
        self._idle: list[_Connection] = []

    async def send(self, message: bytes, timing: Timing | None = None) -> Reply:
        """Send a whole request, headers included, and return its answer.

        A kept connection that the server had closed in the meantime is replaced, as HTTP clients do.

        Raises:
            RefusedError: no connection was accepted.
            LostError: the connection ended before the whole answer had come.
        """
        timing = Timing() if timing is None else timing
        while True:
            connection = await self._take()
            again = connection.used
            try:
                reply = await connection.exchange(message, timing)
            except LostError:
                if again and timing.first_byte is None:
                    continue
                raise
            if connection.open:
                self._idle.append(connection)
            return reply

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().abort()

    async def _take(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        try:
            _, made = await asyncio.get_running_loop().create_connection(_Connection, self.host, self.port)
        except OSError as error:
            raise RefusedError(str(error)) from error
        self.opened += 1
        return made


def request(path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
    """Return a whole request: a GET, or a POST of JSON if there is a body."""
    found = {"host": "127.0.0.1"}
    if body is not None:
        found |= {"content-type": "application/json", "content-length": str(len(body))}
    found |= headers or {}
    method = "GET" if body is None else "POST"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in found.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _joined(chunks: bytes) -> bytes:
    """Return the body that chunks make."""
    parts, position = [], 0
    while position < len(chunks):
        end = chunks.index(b"\r\n", position)
        size = int(chunks[position:end].partition(b";")[0], 16)
        parts.append(chunks[end + 2 : end + 2 + size])
        position = end + 2 + size + 2
        if not size:
            break
    return b"".join(parts)
