"""The server's application on the small models, called without a network: a request is a call of ASGI's three parts."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any

import pytest

from quoit.artifact import Artifact
from quoit.engine.options import Options
from quoit.engine.scheduler import Scheduler
from quoit.server.app import State, make_app
from quoit.server.metrics import Metrics
from quoit.server.run import Served, load_models
from quoit.server.service import Models, Service
from quoit.server.settings import Settings

MAX_TOKENS = 256
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


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    found = asyncio.new_event_loop()
    thread = Thread(target=found.run_forever)
    thread.start()
    yield found
    found.call_soon_threadsafe(found.stop)
    thread.join()
    found.close()


@pytest.fixture(scope="session")
def models(
    artifact: Artifact, rerank_artifact: Artifact, loop: asyncio.AbstractEventLoop
) -> Iterator[tuple[Models, Scheduler]]:
    """Both small models in fp32, cut to a few tokens, and their scheduler."""
    scheduler = Scheduler()
    options = Options(precision="fp32", provider="cpu", max_tokens=MAX_TOKENS)
    folders = (str(artifact.folder), str(rerank_artifact.folder))
    found = load_models(Served(*folders, options, ("emb", "org/rer")), scheduler)
    yield found, scheduler
    scheduler.close()
    for model in (found.embedder, found.reranker):
        assert model is not None
        closing: Future[None] = asyncio.run_coroutine_threadsafe(model.aclose(), loop)
        closing.result(SECONDS)


@pytest.fixture(scope="session")
def clients(models: tuple[Models, Scheduler], loop: asyncio.AbstractEventLoop) -> Clients:
    """A function that returns a client of a server of these models, both by default, with these settings."""

    def make(served: Models = models[0], **settings: Any) -> Client:
        chosen, metrics = Settings(**settings), Metrics()
        state = State(Service(served, chosen, metrics))
        return Client(make_app(state, chosen, metrics), loop)

    return make


@pytest.fixture(scope="session")
def client(clients: Clients) -> Client:
    """A client of a server as it is by default."""
    return clients()
