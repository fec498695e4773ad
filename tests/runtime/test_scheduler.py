"""The scheduler: same bits in every lane and under load, who goes first, what is dropped, what fails alone."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import numpy as np
import pytest

from quoit import DeadlineError, Embedder, InputError, OverloadedError
from quoit.engine.pipeline import Pipeline
from quoit.engine.planner import Row
from quoit.engine.scheduler import Lane, Request, Scheduler, Terms
from quoit.engine.scheduler.lanes import BulkQueue, QueryQueue
from quoit.engine.scheduler.requests import Cell, Group
from quoit.errors import ComputeError
from quoit.ort.cancellation import Cancellation
from quoit.ort.graph_inputs import Inputs
from quoit.ort.session import Answers

SECONDS = 30
TEXTS = ["short", "a longer text about water", *(f"text {number} " * number for number in range(1, 40)), "water " * 500]


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    yield scheduler
    scheduler.close()


@dataclass
class Gate:
    """Stands before a session: its runs begin when `open` is set, and `seen` keeps how many rows each answered."""

    session: Any
    open: Event = field(default_factory=Event)
    entered: Event = field(default_factory=Event)
    seen: list[Inputs] = field(default_factory=list)
    poison: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, inputs: Inputs, cancellation: Cancellation | None = None) -> Answers:
        self.seen.append(inputs)
        self.entered.set()
        assert self.open.wait(SECONDS)
        if self.poison is not None and self.poison in inputs["input_ids"]:
            raise RuntimeError("out of memory")
        answers: Answers = self.session.run(inputs, cancellation)
        return answers


@pytest.fixture
def gate(embedder: Embedder) -> Gate:
    return Gate(embedder.pipeline.session)


@pytest.fixture
def gated(embedder: Embedder, gate: Gate) -> Pipeline:
    return replace(embedder.pipeline, session=gate)  # type: ignore[arg-type]


def rows_of(pipeline: Pipeline, texts: list[str]) -> list[Row]:
    return list(pipeline.tokenizer.encode(texts).ids)


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another thread does."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def alone(pipeline: Pipeline, row: Row) -> Answers:
    answer: Answers = pipeline.run([row], lambda _: None)[0]
    return answer


def test_the_same_bits_in_every_lane_and_under_load(embedder: Embedder, scheduler: Scheduler) -> None:
    pipeline = embedder.pipeline
    rows = rows_of(pipeline, TEXTS)
    expected = np.stack([alone(pipeline, row) for row in rows])
    lanes: list[Lane] = ["query", "bulk"]

    def ask(number: int) -> bool:
        shift = number * 7 % len(rows)
        chosen = list(range(len(rows)))[shift:] + list(range(shift))
        terms = Terms(lanes[number % 2], priority=number % 3, owner=str(number % 4))
        request = scheduler.submit(pipeline, [rows[each] for each in chosen], terms)
        return bool((request.future.result(SECONDS) == expected[chosen]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(24)))
    counts = scheduler.counts()
    assert counts.shared_rows > 0
    assert not any(counts.queued_rows.values())
    assert not any(counts.queued_tokens.values())


def test_a_prompt_is_cached_and_gives_the_same_bits(embedder: Embedder, scheduler: Scheduler) -> None:
    texts = ["water", "fire", "earth"]
    prompt = "Instruct: find elements\nQuery:"
    rows = rows_of(embedder.pipeline, [prompt + text for text in texts])
    expected = np.stack([alone(embedder.pipeline, row) for row in rows])
    for _ in range(3):
        request = scheduler.submit(embedder.pipeline, rows, Terms("query"), prompt)
        assert (request.future.result(SECONDS) == expected).all()
    assert prompt in embedder.pipeline.prefix_cache.prompts


def test_a_row_in_flight_is_computed_once(gated: Pipeline, gate: Gate, scheduler: Scheduler) -> None:
    rows = rows_of(gated, ["water"])
    first = scheduler.submit(gated, rows, Terms())
    assert gate.entered.wait(SECONDS)
    second = scheduler.submit(gated, rows, Terms())
    apart = scheduler.submit(gated, rows, Terms(sharing="another tenant"))
    gate.open.set()
    assert (first.future.result(SECONDS) == second.future.result(SECONDS)).all()
    assert (first.future.result(SECONDS) == apart.future.result(SECONDS)).all()
    assert len(gate.seen) == 2
    assert scheduler.counts().shared_rows == 1


def test_a_query_takes_a_row_out_of_the_bulk_lane(gated: Pipeline, gate: Gate, scheduler: Scheduler) -> None:
    running = scheduler.submit(gated, rows_of(gated, ["fire"]), Terms())
    assert gate.entered.wait(SECONDS)
    waiting = scheduler.submit(gated, rows_of(gated, ["water"]), Terms())
    query = scheduler.submit(gated, rows_of(gated, ["water"]), Terms("query"))
    until(lambda: len(gate.seen) == 2)  # beside the bulk batch, which still waits for the gate
    assert not any(scheduler.counts().queued_rows.values())
    gate.open.set()
    assert (query.future.result(SECONDS) == waiting.future.result(SECONDS)).all()
    running.future.result(SECONDS)
    assert len(gate.seen) == 2


def test_rows_that_nobody_waits_for_are_not_computed(gated: Pipeline, gate: Gate, scheduler: Scheduler) -> None:
    running = scheduler.submit(gated, rows_of(gated, ["fire"]), Terms())
    assert gate.entered.wait(SECONDS)
    gone = scheduler.submit(gated, rows_of(gated, ["water", "earth"]), Terms())
    kept = scheduler.submit(gated, rows_of(gated, ["earth"]), Terms())
    assert gone.future.cancel()
    gate.open.set()
    kept.future.result(SECONDS)
    running.future.result(SECONDS)
    until(lambda: scheduler.counts().dropped["gone"] == 1)
    assert sum(len(inputs["last_row"]) for inputs in gate.seen) == 2


def test_a_running_batch_ends_when_nobody_waits_for_it(embedder: Embedder, scheduler: Scheduler) -> None:
    pipeline = embedder.pipeline
    rows = rows_of(pipeline, [f"{number} water " * 400 for number in range(8)])
    request = scheduler.submit(pipeline, rows, Terms())
    until(lambda: request.started is not None)
    request.future.cancel()
    until(lambda: scheduler.counts().dropped["gone"] + scheduler.counts().queued_rows["bulk"] == len(rows))
    assert scheduler.submit(pipeline, rows_of(pipeline, ["water"]), Terms()).future.result(SECONDS).shape[0] == 1


def test_who_comes_while_a_batch_is_being_ended_gets_an_answer(
    gated: Pipeline, gate: Gate, scheduler: Scheduler
) -> None:
    rows = rows_of(gated, ["water"])
    first = scheduler.submit(gated, rows, Terms())
    assert gate.entered.wait(SECONDS)
    first.future.cancel()  # ends the run, which still waits for the gate
    second = scheduler.submit(gated, rows, Terms())
    gate.open.set()
    assert (second.future.result(SECONDS)[0] == alone(gated, rows[0])).all()


def test_rows_past_their_deadline_are_dropped(gated: Pipeline, gate: Gate, scheduler: Scheduler) -> None:
    running = scheduler.submit(gated, rows_of(gated, ["fire"]), Terms())
    assert gate.entered.wait(SECONDS)
    late = scheduler.submit(gated, rows_of(gated, ["water"]), Terms(deadline=time.monotonic() + 0.01))
    time.sleep(0.02)
    gate.open.set()
    running.future.result(SECONDS)
    with pytest.raises(DeadlineError, match=r"waited 0\.\d s, until its deadline; try again later"):
        late.future.result(SECONDS)
    assert scheduler.counts().dropped == {"gone": 0, "deadline": 1}
    assert len(gate.seen) == 1


def test_what_would_come_too_late_is_refused_at_once(gated: Pipeline, gate: Gate, scheduler: Scheduler) -> None:
    gate.open.set()
    scheduler.submit(gated, rows_of(gated, ["fire"]), Terms()).future.result(SECONDS)  # now the rate is known
    gate.open.clear()
    gate.entered.clear()
    requests = [scheduler.submit(gated, rows_of(gated, ["fire"]), Terms())]
    assert gate.entered.wait(SECONDS)
    requests.append(
        scheduler.submit(gated, rows_of(gated, [f"{number} water " * 400 for number in range(40)]), Terms())
    )
    with pytest.raises(OverloadedError, match="tokens are queued, which take") as caught:
        scheduler.submit(gated, rows_of(gated, ["earth"]), Terms(deadline=time.monotonic() + 0.001))
    assert caught.value.retry_after > 0
    patient = scheduler.submit(gated, rows_of(gated, ["earth"]), Terms(deadline=time.monotonic() + 3600))
    query = scheduler.submit(gated, rows_of(gated, ["earth and fire"]), Terms("query", time.monotonic() + 3600))
    gate.open.set()
    for request in (*requests, patient, query):
        request.future.result(SECONDS)


def test_what_could_begin_and_not_end_in_time_is_refused(
    gated: Pipeline, gate: Gate, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are being computed go first too; nothing is ahead of anybody when all are answered."""
    monkeypatch.setitem(scheduler._rates, (id(gated), "bulk"), 1000.0)  # tokens/s
    first = scheduler.submit(gated, [np.arange(1000, dtype=np.uint32) % 200], Terms())
    assert gate.entered.wait(SECONDS)
    rows: list[Row] = [np.arange(number, number + 1000, dtype=np.uint32) % 200 for number in (1, 2)]
    now = time.monotonic()
    with pytest.raises(
        OverloadedError, match=r"1,000 tokens are queued, .* 2,000 would be done after 3\.3 s, not within"
    ):
        scheduler.submit(gated, rows, Terms(deadline=now + 3.2))
    second = scheduler.submit(gated, rows, Terms(deadline=now + 3600))
    gate.open.set()
    for request in (first, second):
        request.future.result(SECONDS)
    assert scheduler.predict_seconds(gated, "bulk") == 0


def test_a_query_waits_for_those_of_earlier_deadlines_alone(
    gated: Pipeline, gate: Gate, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scheduler._rates, (id(gated), "query"), 1000.0)  # tokens/s
    rows: list[Row] = [np.arange(number, number + 100, dtype=np.uint32) % 200 for number in range(31)]
    now = time.monotonic()
    requests = [scheduler.submit(gated, rows[:1], Terms("query", now + 3600))]
    assert gate.entered.wait(SECONDS)
    requests.append(scheduler.submit(gated, rows[1:30], Terms("query", now + 3600)))  # 2.9 s of work
    with pytest.raises(OverloadedError, match=r"and this request waits for 2\.0 s at most"):
        scheduler.check(gated, 10, Terms("query", now + 7200, patience=2.0))
    with pytest.raises(OverloadedError, match=r"and this request waits for 2\.0 s at most"):
        scheduler.check(gated, 10, Terms("query", priority=1, deadline=now + 60, patience=2.0))
    requests.append(scheduler.submit(gated, rows[30:], Terms("query", now + 60, patience=2.0)))
    gate.open.set()
    for request in requests:
        request.future.result(SECONDS)
    assert scheduler.predict_seconds(gated, "query") == 0
    assert not scheduler._query._tokens


def test_patience_is_for_the_wait_and_not_for_the_work(embedder: Embedder, scheduler: Scheduler) -> None:
    """A large request may compute for longer than it waits."""
    rows = rows_of(embedder.pipeline, [f"{number} water " * 300 for number in range(20)])
    request = scheduler.submit(embedder.pipeline, rows, Terms(patience=0.001))
    until(lambda: scheduler.predict_seconds(embedder.pipeline, "bulk") > 0.001)
    with pytest.raises(OverloadedError, match=r"waits for 0\.0 s at most"):
        scheduler.check(embedder.pipeline, 1, Terms(patience=0.001))
    assert len(request.future.result(SECONDS)) == len(rows)


def test_an_idle_scheduler_sleeps(embedder: Embedder, scheduler: Scheduler) -> None:
    scheduler.submit(embedder.pipeline, rows_of(embedder.pipeline, ["water"]), Terms()).future.result(SECONDS)
    time.sleep(0.2)  # onnxruntime's threads spin for a while
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_the_queue_is_bounded_in_tokens_and_a_request_is_admitted_whole(gated: Pipeline, gate: Gate) -> None:
    scheduler = Scheduler(max_queued_tokens=100)
    running = scheduler.submit(gated, rows_of(gated, ["water " * 300]), Terms())  # an empty queue takes any request
    assert gate.entered.wait(SECONDS)
    waiting = scheduler.submit(gated, rows_of(gated, ["fire"]), Terms())
    with pytest.raises(OverloadedError, match=r"\d more would be above 100; try again later"):
        scheduler.submit(gated, rows_of(gated, ["earth", "water " * 300]), Terms())
    assert scheduler.counts().queued_rows == {"query": 0, "bulk": 1}
    gate.open.set()
    running.future.result(SECONDS)
    waiting.future.result(SECONDS)
    scheduler.close()


def test_a_row_that_cannot_be_computed_fails_alone(gated: Pipeline, gate: Gate, scheduler: Scheduler) -> None:
    rows = rows_of(gated, ["fire", *(f"{number} water" for number in range(9))])
    ids = [{int(number) for number in row} for row in rows]
    (gate.poison, *_) = ids[0].difference(*ids[1:])
    gate.open.set()
    blocker = scheduler.submit(gated, rows_of(gated, ["earth"]), Terms())
    requests = [scheduler.submit(gated, [row], Terms(owner=str(number))) for number, row in enumerate(rows)]
    with pytest.raises(
        ComputeError, match=r"cannot run a row of \d tokens \(out of memory\); use a smaller max_tokens"
    ):
        requests[0].future.result(SECONDS)
    for row, request in zip(rows[1:], requests[1:], strict=True):
        assert (request.future.result(SECONDS)[0] == alone(gated, row)).all()
    blocker.future.result(SECONDS)


def test_bulk_work_goes_on_while_queries_never_stop(embedder: Embedder) -> None:
    scheduler = Scheduler(bulk_share=0.3)
    pipeline = embedder.pipeline
    bulk = scheduler.submit(pipeline, rows_of(pipeline, [f"{number} earth " * 200 for number in range(20)]), Terms())
    queries: list[Request] = []
    number = 0
    while not bulk.future.done():
        queries = [each for each in queries if not each.future.done()]
        for _ in range(4 - len(queries)):
            number += 1
            queries.append(scheduler.submit(pipeline, rows_of(pipeline, [f"query {number}"]), Terms("query")))
        time.sleep(0.0005)
    assert number > 20
    for query in queries:
        query.future.result(SECONDS)
    scheduler.close()


def test_draining_answers_what_was_admitted(embedder: Embedder) -> None:
    scheduler = Scheduler()
    request = scheduler.submit(embedder.pipeline, rows_of(embedder.pipeline, TEXTS), Terms())
    assert scheduler.drain(SECONDS)
    with pytest.raises(InputError, match="was closed; make another one"):
        scheduler.submit(embedder.pipeline, rows_of(embedder.pipeline, ["water"]), Terms())
    scheduler.close()
    assert len(request.future.result(0)) == len(TEXTS)


def test_closing_fails_what_still_waits(gated: Pipeline, gate: Gate) -> None:
    scheduler = Scheduler()
    running = scheduler.submit(gated, rows_of(gated, ["fire"]), Terms())
    assert gate.entered.wait(SECONDS)
    waiting = scheduler.submit(gated, rows_of(gated, ["water"]), Terms())
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(scheduler.close)
        for request in (running, waiting):
            with pytest.raises(InputError, match="closed before this text had its turn"):
                request.future.result(SECONDS)
        gate.open.set()
        closing.result(SECONDS)


def test_no_rows_are_answered_at_once(embedder: Embedder, scheduler: Scheduler) -> None:
    assert scheduler.submit(embedder.pipeline, [], Terms()).future.result(0).shape == (0, embedder.dim)


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"bulk_share 1.5 is no share; choose a number from 0 to 1"):
        Scheduler(bulk_share=1.5)


def cell_of(lane: Lane, tokens: int, prompt: str = "", number: int = 0) -> Cell:
    ids = np.full(tokens, number, np.uint32)
    return Cell((Group(None, prompt, "", 0), ids.tobytes()), ids, lane)  # type: ignore[arg-type]


def test_queries_go_by_priority_then_deadline_then_arrival() -> None:
    queue = QueryQueue()
    cells = {name: cell_of("query", 1, number=number) for number, name in enumerate("abcd")}
    for name, terms in {
        "a": Terms("query", deadline=9),
        "b": Terms("query", deadline=5),
        "c": Terms("query", deadline=5),
        "d": Terms("query", deadline=99, priority=-1),
    }.items():
        queue.push(cells[name], terms)
    assert queue.take(lambda _: 10) == [cells[name] for name in "dbca"]


def test_a_batch_of_queries_has_one_prompt_and_leaves_others_in_place() -> None:
    queue = QueryQueue()
    cells = [cell_of("query", 2, prompt, number) for number, prompt in enumerate(("p", "q", "p", "q"))]
    for cell in cells:
        queue.push(cell, Terms("query"))
    assert queue.take(lambda _: 100) == [cells[0], cells[2]]
    assert queue.take(lambda _: 1) == [cells[1]]
    assert queue.take(lambda _: 1) == [cells[3]]
    assert queue.take(lambda _: 1) == []


def test_owners_share_the_bulk_lane_by_tokens() -> None:
    queue = BulkQueue()
    large = [cell_of("bulk", 100, number=number) for number in range(20)]
    for cell in large:
        queue.push(cell, Terms(owner="large"))
    assert queue.take(lambda _: 1000) == large[:10]
    small = [cell_of("bulk", 10, number=100 + number) for number in range(10)]
    for cell in small:
        queue.push(cell, Terms(owner="small"))
    assert queue.take(lambda _: 200) == large[10:12]  # who came first, at equal shares
    assert queue.take(lambda _: 200) == [*small, large[12]]  # then who was served less
    assert queue.owners == {"large"}


def test_a_request_that_was_begun_is_taken_whole() -> None:
    """Requests of several owners that all went on at once would all end late."""
    queue = BulkQueue()
    requests = [Request(3, (4,), Terms(owner=owner)) for owner in "abc"]
    cells = [[cell_of("bulk", 10, number=10 * place + row) for row in range(3)] for place in range(3)]
    for request, rows in zip(requests, cells, strict=True):
        for row, cell in enumerate(rows):
            cell.waiters.append((request, row))
            queue.push(cell, request.terms)
    assert queue.take(lambda _: 50) == [*cells[0], *cells[1][:2]]
    assert queue.take(lambda _: 50) == [*cells[2], cells[1][2]]


def test_a_lower_priority_goes_before_all_owners() -> None:
    """As large rankings do."""
    queue = BulkQueue()
    cells = [cell_of("bulk", 10, number=number) for number in range(3)]
    for cell, terms in zip(cells, (Terms(owner="a"), Terms(owner="b"), Terms(owner="b", priority=-1)), strict=True):
        queue.push(cell, terms)
    assert queue.take(lambda _: 30) == [cells[2], cells[0], cells[1]]


def test_rows_that_are_put_back_keep_their_place_and_cost_their_owner_nothing() -> None:
    queue = BulkQueue()
    cells = [cell_of("bulk", 10, number=number) for number in range(4)]
    for cell in cells[:3]:
        queue.push(cell, Terms(owner="a"))
    assert queue.take(lambda _: 20) == cells[:2]
    queue.push(cells[3], Terms(owner="a"))
    for cell in cells[:2]:
        queue.put_back(cell, Terms(owner="a"))
    other = cell_of("bulk", 10, number=9)
    queue.push(other, Terms(owner="b"))
    assert queue.take(lambda _: 10) == [cells[0]]
    assert queue.take(lambda _: 10) == [other]
    assert queue.take(lambda _: 30) == cells[1:]
