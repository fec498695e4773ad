"""Call an application without a network: a request is a call of ASGI's three parts."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 256
"""Number of tokens that the server cuts texts to."""
SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """An answer: its status, its headers in lower case, and its bytes."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class Client:
    """Calls an application on an event loop that runs in another thread."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._app, self._loop = app, loop

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        """The answer to a body: bytes as they are, else their JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, {"content-type": "application/json"} | (headers or {}), content)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """The answer to a request without a body."""
        return self.ask("GET", path, headers or {}, b"")

    def ask(self, method: str, path: str, headers: dict[str, str], content: bytes) -> Answer:
        """The answer to a request."""
        lowered = {"host": "localhost"} | {name.lower(): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in lowered.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
        }
        return asyncio.run_coroutine_threadsafe(self._call(scope, content), self._loop).result(SECONDS)

    async def _call(self, scope: dict[str, Any], content: bytes) -> Answer:
        bodies = [{"type": "http.request", "body": content, "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if bodies:
                return bodies.pop()
            await asyncio.Event().wait()  # the caller stays
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


Clients = Callable[..., Client]
"""Function that returns a client of a server with other models or settings."""
