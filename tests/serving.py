"""Run the server's application in a thread of the test's process, on a free port, before and after it has models."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from threading import Thread

import uvicorn

from quoit.engine.scheduler import Scheduler
from quoit.server.app import State, make_app
from quoit.server.listening import bind
from quoit.server.metrics import Metrics
from quoit.server.run import Served, load_models
from quoit.server.service import Models, Service
from quoit.server.settings import Settings

SECONDS = 30


class Serving:
    """A server. `models` is None until `load` has run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = replace(settings, port=0)
        self.state, self.metrics = State(), Metrics()
        self.models: Models | None = None
        self._scheduler: Scheduler | None = None
        sock, bound = bind(self.settings)
        self.address = f"http://{bound.host}:{bound.port}"
        app = make_app(self.state, self.settings, self.metrics)
        config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = Thread(target=lambda: asyncio.run(self._server.serve(sockets=[sock])), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def load(self, served: Served) -> Models:
        """Load models and answer requests from now on."""
        self._scheduler = Scheduler(on_batch=self.metrics.batch)
        self.models = load_models(served, self._scheduler)
        self.metrics.watch(self._scheduler, [])
        self.state.service = Service(self.models, self.settings, self.metrics)
        return self.models

    def close(self) -> None:
        """End the server and close its models."""
        self._server.should_exit = True
        self._thread.join(SECONDS)
        if self._scheduler is not None:
            self._scheduler.close()
        for model in (self.models.embedder, self.models.reranker) if self.models is not None else ():
            if model is not None:
                asyncio.run(model.aclose())

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        """Return the response to a request, and its body."""
        connection = HTTPConnection(self.address.removeprefix("http://"), timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()

    def requests(self) -> float:
        """Return the number of requests that a model had to answer."""
        return sum(
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "quoit_requests_total"
            and sample.labels["route"] in ("/v1/embeddings", "/rerank", "/tokenize")
        )


@contextlib.contextmanager
def serving(settings: Settings | None = None, served: Served | None = None) -> Iterator[Serving]:
    """Serve while a test runs."""
    server = Serving(settings or Settings())
    try:
        if served is not None:
            server.load(served)
        yield server
    finally:
        server.close()
