"""The server's application on the small models."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
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
from server.calls import MAX_TOKENS, SECONDS, Client, Clients


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
