"""Running the server in tests: as a process of its own, or its application in this process without sockets."""

import asyncio
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Self

PATIENCE = 60.0
"""Seconds that a busy machine may take for anything here."""
JSON_HEADERS = {"content-type": "application/json"}

Headers = Mapping[str, str]
Answer = tuple[int, dict[str, str], Any]
"""Status, headers in lower case, and the body: parsed if it is JSON."""


def parsed(content: bytes, headers: Headers) -> Any:
    """A body as JSON if it says that it is, else as text."""
    is_json = headers.get("content-type", "").startswith("application/json") and content
    return json.loads(content) if is_json else content.decode()


def as_bytes(body: Any) -> bytes:
    """What is sent: bytes as they are, None as nothing, and anything else as JSON."""
    if body is None or isinstance(body, bytes):
        return body or b""
    return json.dumps(body).encode()


# ------------------------------------------------------------------------------------------------ in this process


def ask_app(app: Any, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Answer:
    """What an ASGI application answers to a request, in an event loop of its own."""
    return asyncio.run(ask_asgi(app, method, path, body, headers))


async def ask_asgi(app: Any, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Answer:
    """What an ASGI application answers to a request. The body arrives in two parts."""
    content = as_bytes(body)
    sent: dict[str, str] = {"host": "localhost", **({} if body is None else JSON_HEADERS)} | dict(headers or {})
    if content:
        sent["content-length"] = str(len(content))
    middle = len(content) // 2
    parts = [content[:middle], content[middle:]] if content else [b""]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    answered: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    await app(scope, receive, send)
    found = {name.decode().lower(): value.decode() for name, value in answered[0]["headers"]}
    content = b"".join(message["body"] for message in answered[1:])
    return answered[0]["status"], found, parsed(content, found)


# -------------------------------------------------------------------------------------------- in a process of its own


@dataclass
class Running:
    """A server in a process of its own.

    Attributes:
        arguments: arguments of `quoit serve`.
        variables: environment variables of the process.
        command: what starts the command, if it is not this Python.
        pass_fds: file descriptors that it inherits.
        lines: what it wrote to standard error so far.
    """

    arguments: Iterable[object]
    variables: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "quoit")
    pass_fds: tuple[int, ...] = ()
    lines: list[str] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        command = [*self.command, "serve", *map(str, self.arguments)]
        environment = {name: value for name, value in os.environ.items() if name != "QUOIT_API_KEY"}
        environment.update(self.variables)
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, pass_fds=self.pass_fds
        )
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._arrived.put(line.rstrip("\n"))
        self._arrived.put(None)

    def until(self, words: str) -> str:
        """The line with some words, when it has come."""
        found = next((line for line in self.lines if words in line), None)
        while found is None:
            line = self._arrived.get(timeout=PATIENCE)
            assert line is not None, f"the server ended without {words!r}: {self.lines}"
            self.lines.append(line)
            found = line if words in line else None
        return found

    def listening(self) -> Self:
        """This server when it listens on a port, which may be long before it is ready."""
        found = re.search(r"http://[^ ]+:(\d+)", self.until("listening on"))
        assert found is not None
        self.port = int(found[1])
        return self

    def ready(self) -> Self:
        """This server when it answers."""
        self.listening()
        self.until("ready after")
        return self

    def ask(self, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Answer:
        """What it answers to a request."""
        return ask_port(self.port, method, path, body, headers)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, when all its lines were read."""
        code = self.process.wait(PATIENCE)
        while (line := self._arrived.get(timeout=PATIENCE)) is not None:
            self.lines.append(line)
        return code


def ask_port(port: int, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Answer:
    """What a server on this machine answers to a request over a new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(
            method, path, as_bytes(body) or None, {**({} if body is None else JSON_HEADERS), **(headers or {})}
        )
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, parsed(response.read(), found)
    finally:
        connection.close()


def send_raw(port: int, content: bytes, seconds: float = PATIENCE) -> bytes:
    """All that a server sends back to some bytes, until it closes the connection or the time is over."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock:
        found = b""
        try:
            sock.sendall(content)
            while part := sock.recv(1 << 16):
                found += part
        except (TimeoutError, ConnectionError):
            pass
        return found


def ask_unix(path: Path, target: str) -> Answer:
    """What a server on a Unix socket answers to `GET`."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, parsed(response.read(), found)
    finally:
        connection.close()


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have some labels."""
    total = 0.0
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if found is not None and all(f'{label}="{value}"' in (found[1] or "") for label, value in labels.items()):
            total += float(found[2])
    return total


def eventually(check: Any, seconds: float = PATIENCE) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
