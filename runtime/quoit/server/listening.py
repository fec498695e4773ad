"""Open the socket that a server listens on, and bound what connections may cost before a request is complete."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from quoit.errors import InputError
from quoit.server.settings import Settings

BACKLOG = 2048
"""Maximum number of connections that wait to be accepted."""
FIRST_SOCKET = 3
"""Number of the first socket that systemd passes (sd_listen_fds(3))."""
SOCKET_MODE = 0o660
HEADER_SECONDS = 10.0
"""Seconds that the header of a request may take to arrive."""
SPARE_CONNECTIONS = 64
"""Connections above the maximum of requests, in which health is answered and others are refused in words."""


def bind(settings: Settings) -> tuple[socket.socket, Settings]:
    """Return a socket that listens, and the settings with its address.

    Raises:
        InputError: the address cannot be used, or lets everybody in.
    """
    sock, passed = _passed(), True
    if sock is None:
        sock, passed = (_bind_address(settings) if settings.uds is None else _bind_unix(settings.uds)), False
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        bound = replace(settings, uds=name if isinstance(name, str) else name.decode(), passed=passed)
    else:
        bound = replace(settings, host=name[0], port=name[1], uds=None, passed=passed)
    with _closed_on_error(sock):
        bound.check()
    return sock, bound


def _passed() -> socket.socket | None:
    """Return the socket that systemd made, if it made one for this process.

    Raises:
        InputError: it made several.
    """
    pid, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if pid != str(os.getpid()) or count is None:
        return None
    if count != "1":
        raise InputError(f"the system passes {count} sockets (LISTEN_FDS); name one ListenStream in the socket unit")
    return socket.socket(fileno=FIRST_SOCKET)


def _bind_address(settings: Settings) -> socket.socket:
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with _closed_on_error(socket.socket(family, kind, protocol)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror or error}); choose another with "
            "--host or --port"
        ) from error
    return sock


def _bind_unix(path: str) -> socket.socket:
    """Return a Unix socket that only the user and the group may use; a socket that nobody listens on is replaced."""
    place = Path(path)
    try:
        with _closed_on_error(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
            if place.is_socket():
                with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
                    if probe.connect_ex(path) == 0:
                        raise InputError(f"another server listens on {path}; choose another --uds, or end it")
                place.unlink()
            before = os.umask(0o777 ^ SOCKET_MODE)
            try:
                sock.bind(path)
            finally:
                os.umask(before)
            sock.listen(BACKLOG)
    except OSError as error:
        raise InputError(f"cannot listen on {path} ({error.strerror or error}); choose another --uds") from error
    return sock


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[socket.socket]:
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with a limit of connections and of the time that a header takes; it has neither by itself."""

    max_connections: int
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
        else:
            self._watch(waiting=True)

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request."""
        super().data_received(data)
        self._watch(waiting=self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        super().connection_lost(exc)
        self._watch(waiting=False)

    def _watch(self, *, waiting: bool) -> None:
        """Start the time of a header that has begun, or stop it."""
        if not waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif waiting and self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)


def make_protocol(settings: Settings) -> type[BoundedProtocol]:
    """Return the protocol of a server's connections."""

    class Limited(BoundedProtocol):
        max_connections = settings.max_connections + SPARE_CONNECTIONS

    return Limited
