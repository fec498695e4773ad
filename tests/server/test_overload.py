"""A server that has more to do than it can refuses at once, in every dialect, and answers again when it is done."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from quoit.engine.scheduler import Request, Scheduler, Terms
from quoit.server.app import State, make_app
from quoit.server.metrics import Metrics
from quoit.server.service import Models, Service
from quoit.server.settings import Settings
from server.calls import SECONDS, Client, Clients
from server.running import ask_asgi

PATIENCE = 1e-6
"""Seconds that requests wait at most: less than any queue takes, at whatever rate other tests have measured."""
BODIES: list[tuple[str, dict[str, Any], int, Callable[[Any], str]]] = [
    ("/v1/embeddings", {"input": "a"}, 429, lambda answer: answer["error"]["message"]),
    ("/embed", {"inputs": "a"}, 429, lambda answer: answer["error"]),
    ("/rerank", {"query": "a", "texts": ["b"]}, 429, lambda answer: answer["error"]),
    ("/rerank", {"query": "a", "documents": ["b"]}, 429, lambda answer: answer["error"]["message"]),
    ("/v2/rerank", {"query": "a", "documents": ["b"]}, 429, lambda answer: answer["message"]),
    ("/", {"inputs": "a"}, 429, lambda answer: answer["error"]),
    ("/score", {"text_1": "a", "text_2": "b"}, 429, lambda answer: answer["error"]["message"]),
    ("/v2/embed", {"texts": ["a"], "input_type": "search_query"}, 429, lambda answer: answer["message"]),
    ("/api/embed", {"model": "m", "input": "a"}, 429, lambda answer: answer["error"]),
]
"""Path, body, status of an overload, and where the answer has its message."""


@pytest.fixture
def filled(models: tuple[Models, Scheduler], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Queries are queued behind one that does not end; what is given ends it."""
    served, scheduler = models
    assert served.embedder is not None
    assert served.reranker is not None
    gate, entered = threading.Event(), threading.Event()
    pipeline = served.embedder.scheduled.pipeline
    rows = [np.array([number, number + 1], np.uint32) for number in range(3)]
    for model in (served.embedder, served.reranker):  # now the rates of queries are known
        scheduler.submit(model.scheduled.pipeline, rows[:1], Terms("query")).future.result(SECONDS)
    run = pipeline.session.run

    def waiting(*arguments: Any) -> Any:
        entered.set()
        gate.wait(SECONDS)
        return run(*arguments)

    monkeypatch.setattr(pipeline.session, "run", waiting)
    requests: list[Request] = [scheduler.submit(pipeline, rows[1:2], Terms("query"))]
    assert entered.wait(SECONDS)
    requests.append(scheduler.submit(pipeline, [np.arange(5, 200, dtype=np.uint32)], Terms("query")))

    def empty() -> None:
        gate.set()
        for request in requests:
            request.future.result(SECONDS)

    yield empty
    empty()


@pytest.fixture
def impatient(clients: Clients) -> Client:
    return clients(max_wait=PATIENCE)


@pytest.mark.parametrize(("path", "body", "status", "message"), BODIES)
def test_a_refusal_is_in_the_callers_dialect(
    impatient: Client,
    filled: Callable[[], None],
    path: str,
    body: dict[str, Any],
    status: int,
    message: Callable[[Any], str],
) -> None:
    answer = impatient.post(path, body)
    assert answer.status == status
    assert "tokens are queued, which take" in message(answer.json)
    assert int(answer.headers["retry-after-ms"]) >= 1
    assert int(answer.headers["retry-after"]) >= 1
    filled()
    assert impatient.post(path, body).status == 200


@pytest.mark.usefixtures("filled")
def test_health_is_answered_meanwhile(impatient: Client) -> None:
    for path in ("/live", "/health", "/metrics"):
        assert impatient.get(path).status == 200


@pytest.mark.usefixtures("filled")
def test_a_patient_caller_is_not_refused(clients: Clients, filled: Callable[[], None]) -> None:
    threading.Timer(0.2, filled).start()
    assert clients(max_wait=60.0).post("/embed", {"inputs": "a"}).status == 200


@pytest.mark.usefixtures("filled")
def test_the_callers_own_deadline_counts(clients: Clients) -> None:
    """It puts the query before those that have more time, so it is too late at once, or foreseen to be."""
    answer = clients(max_wait=60.0).post("/embed", {"inputs": "a"}, {"x-quoit-deadline-ms": "1"})
    assert answer.status in (429, 504)
    assert "in time" in answer.json["error"] or "tokens are queued" in answer.json["error"]


def test_what_cannot_be_done_in_time_is_refused_before_its_body_comes(
    models: tuple[Models, Scheduler], filled: Callable[[], None]
) -> None:
    del filled
    settings, metrics = Settings(max_wait=PATIENCE), Metrics()
    app = make_app(State(Service(models[0], settings, metrics)), settings, metrics)
    sent: list[dict[str, Any]] = []

    async def without_body() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = {"host": "localhost", "content-type": "application/json", "content-length": "5000"}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/embed",
            "raw_path": b"/embed",
            "query_string": b"",
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        asking = asyncio.ensure_future(app(scope, receive, send))
        while len(sent) < 2:
            await asyncio.sleep(0.001)
        asking.cancel()

    asyncio.run(asyncio.wait_for(without_body(), SECONDS))
    assert sent[0]["status"] == 429
    assert b"tokens are queued" in sent[1]["body"]
    refused = [s for family in metrics.registry.collect() for s in family.samples if s.name == "quoit_rejected_total"]
    assert [(sample.labels["reason"], sample.value) for sample in refused] == [("overloaded", 1.0)]


def test_answers_are_the_same_bits_on_two_loops(models: tuple[Models, Scheduler]) -> None:
    """The scheduler's threads wake each loop that waits."""
    served = models[0]
    settings, metrics = Settings(), Metrics()
    app = make_app(State(Service(served, settings, metrics)), settings, metrics)
    found: list[Any] = []

    def many(number: int) -> None:
        async def ask() -> None:
            asked = [ask_asgi(app, "POST", "/embed", {"inputs": f"{number % 2} {item}"}) for item in range(20)]
            found.append([answer for _, _, answer in await asyncio.gather(*asked)])

        asyncio.run(ask())

    threads = [threading.Thread(target=many, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(found) == 4
    assert len({repr(each) for each in found}) == 2
