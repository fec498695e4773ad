"""The load generator against a server that delays, and the scenarios on quoit's server in a process."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from bench.studies.serving import study
from bench.studies.serving.figures import counters, memory, recovery, slope, spread, summary
from bench.studies.serving.load import Job, Outcome, Record, beside, closed_loop, every, open_loop
from bench.studies.serving.plot import svg
from bench.studies.serving.scenarios import RERANK_SHARE
from bench.studies.serving.soak import BAD, PATIENCE, Mix, deserved, run
from bench.studies.serving.study import Plan
from bench.studies.serving.systems import OWN, REQUIREMENTS, SERVERS, SYSTEMS, Files, Requests
from bench.studies.serving.table import COLUMNS, serving_table
from bench.studies.serving.texts import Text, Texts
from bench.studies.serving.wire import LostError, Pool, RefusedError, request
from quoit.artifact import Artifact

BODY = b'{"ok": true}'
FIXED = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"ok"\r\n7;x=y\r\n: true}\r\n0\r\n\r\n'
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
BUSY = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
DELAY = 0.05

Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
JOB = Job(request("/", b"{}"), texts=1, tokens=10)


def against(answer: Answer, test: Callable[[Pool], Awaitable[Any]]) -> Any:
    """What a test returns that runs on a server: `answer` writes the answer to each request, given its number."""

    async def play() -> Any:
        number = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal number
            try:
                while await reader.readuntil(b"\r\n\r\n{}"):
                    number += 1
                    await answer(writer, number)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = Pool(*server.sockets[0].getsockname()[:2])
        try:
            return await asyncio.wait_for(test(pool), 20)
        finally:
            pool.close()
            server.close()
            await asyncio.sleep(0.05)

    return asyncio.run(play())


def writing(content: bytes, delay: float = 0.0, *, close: bool = False) -> Answer:
    """An answer that comes after a delay."""

    async def answer(writer: asyncio.StreamWriter, _: int) -> None:
        await asyncio.sleep(delay)
        writer.write(content)
        if close:
            writer.close()

    return answer


def one_at_a_time(delay: float) -> Answer:
    """Answers of a server with a lock."""
    lock = asyncio.Lock()

    async def answer(writer: asyncio.StreamWriter, _: int) -> None:
        async with lock:
            await asyncio.sleep(delay)
        writer.write(FIXED)

    return answer


def record(
    scheduled: float, latency: float, outcome: Outcome = "answered", kind: str = "", status: int = 200
) -> Record:
    done = scheduled + latency
    return Record(kind, 1, 10, PATIENCE, scheduled, scheduled, done, done, status, outcome)


@pytest.mark.parametrize(
    ("content", "close"), [(FIXED, False), (CHUNKED, False), (TO_THE_END, True)], ids=["length", "chunks", "end"]
)
def test_an_answer_is_read_in_every_form(content: bytes, close: bool) -> None:
    async def test(pool: Pool) -> None:
        for _ in range(2):
            reply = await pool.send(JOB.message)
            assert (reply.status, reply.body) == (200, BODY)
        assert pool.opened == (2 if close else 1)

    against(writing(content, close=close), test)


def test_latency_counts_from_the_scheduled_time() -> None:
    """A server with a lock is asked faster than it answers: the tenth answer waits for nine others."""

    async def test(pool: Pool) -> list[Record]:
        return await open_loop(pool, every(DELAY / 10, lambda: JOB, DELAY))

    records = against(one_at_a_time(DELAY), test)
    assert len(records) == 10
    assert max(each.latency for each in records) > 8 * DELAY
    gaps = [after.scheduled - before.scheduled for before, after in pairwise(records)]
    assert gaps == pytest.approx([DELAY / 10] * 9, abs=1e-6)


def test_a_request_that_is_sent_late_has_waited_since_its_scheduled_time() -> None:
    """The generator itself is held up; the schedule does not move, and what was late counts."""
    blocked = 0.2

    async def test(pool: Pool) -> list[Record]:
        def jobs() -> Iterator[tuple[float, Job]]:
            yield 0.0, JOB
            yield 0.01, JOB
            asyncio.get_running_loop().call_soon(time.sleep, blocked)
            yield 0.02, JOB

        return await open_loop(pool, jobs())

    records = against(writing(FIXED), test)
    assert records[2].scheduled - records[0].scheduled == pytest.approx(0.02, abs=1e-6)
    assert records[2].latency > blocked / 2
    assert summary(records)["sent_late_ms"]["worst"] > blocked / 2 * 1e3


def test_clients_of_a_closed_loop_wait_and_connections_are_kept() -> None:
    async def test(pool: Pool) -> tuple[list[Record], int]:
        return await closed_loop(pool, [JOB] * 12, clients=4), pool.opened

    records, opened = against(writing(FIXED, DELAY / 5), test)
    assert (len(records), opened) == (12, 4)
    assert summary(records)["tokens_per_second"] > 0


def test_outcomes() -> None:
    async def lose(writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(FIXED[:-3])
        writer.close()

    async def once(pool: Pool, patience: float = 5.0) -> Record:
        job = Job(JOB.message, patience=patience)
        (found,) = await closed_loop(pool, [job])
        return found

    assert against(writing(FIXED), once).outcome == "answered"
    rejected = against(writing(BUSY), once)
    assert (rejected.outcome, rejected.status) == ("rejected", 429)
    assert against(lose, once).outcome == "lost"
    gave_up = against(writing(FIXED, 1.0), lambda pool: once(pool, 0.05))
    assert (gave_up.outcome, gave_up.status) == ("gave up", 0)
    assert gave_up.latency == pytest.approx(0.05, abs=0.04)
    assert asyncio.run(once(Pool("127.0.0.1", 1))).outcome == "refused"


def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 2:
            writer.close()  # instead of an answer, as a server does whose keep-alive ran out
        else:
            writer.write(FIXED)

    async def test(pool: Pool) -> int:
        for _ in range(2):
            assert (await pool.send(JOB.message)).status == 200
        return pool.opened

    assert against(answer, test) == 2
    with pytest.raises(LostError):
        against(writing(b"", close=True), lambda pool: pool.send(JOB.message))
    with pytest.raises(RefusedError):
        asyncio.run(Pool("127.0.0.1", 1).send(JOB.message))


def test_requests_beside_other_work_end_with_it() -> None:
    async def test(pool: Pool) -> list[Record]:
        async with beside(pool, DELAY / 5, lambda: JOB) as records:
            await asyncio.sleep(DELAY)
        return records

    assert 4 <= len(against(writing(FIXED), test)) <= 8


def test_figures() -> None:
    assert spread([0.001 * number for number in range(1, 101)])["p50"] == 50.5
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    assert memory([(0.0, 1e6), (60.0, 3e6)]) == {
        "first_mb": 1.0,
        "last_mb": 3.0,
        "largest_mb": 3.0,
        "mb_per_minute": 2.0,
    }
    found = summary([record(0.0, 0.1), record(0.5, 0.5), record(0.6, 0.01, "rejected", status=429)])
    assert found["outcomes"] == {"answered": 2, "rejected": 1}
    assert found["tokens_per_second"] == pytest.approx(20)
    assert found["rejected_ms"]["p50"] == 10
    assert found["ms"]["worst"] == 500
    assert counters('# HELP x\nx_total{a="b c"} 3.0\ny 1e-3\n') == {'x_total{a="b c"}': 3.0, "y": 0.001}


def test_recovery_begins_with_the_first_of_several_quick_queries() -> None:
    slow = [record(number / 10, 1.0) for number in range(10)]
    quick = [record(1 + number / 10, 0.01) for number in range(10)]
    assert recovery([*slow, *quick], 0.5, 0.1) == pytest.approx(0.51)
    assert recovery([*slow, *quick[:3]], 0.5, 0.1) is None


def test_every_rival_has_pinned_requirements_and_a_server_in_plain_python() -> None:
    for file in REQUIREMENTS.glob("*.txt"):
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        assert lines
        assert all("==" in line for line in lines)
    for file in SERVERS.glob("*.py"):
        compile(file.read_text(encoding="utf-8"), file.name, "exec")
    assert SYSTEMS[0] is OWN


def test_a_query_carries_its_prompt_where_the_server_is_not_told() -> None:
    text = Text("hello", 2)
    told, not_told = (Requests(system, "Query: ").embed([text], "query", query=True) for system in SYSTEMS[:2])
    assert b'"input": ["hello"]' in told.message
    assert b'"input_type": "query"' in told.message
    assert b'"input": ["Query: hello"]' in not_told.message


def test_a_server_that_ends_may_refuse_and_lose_nothing() -> None:
    assert deserved(record(0, 1), ending=False)
    assert deserved(record(0, 1, "failed", f"{BAD} type", 400), ending=False)
    assert not deserved(record(0, 1, kind=f"{BAD} type"), ending=False)
    assert not deserved(record(0, 1, "failed", status=500), ending=True)
    assert not deserved(record(0, 1, "rejected", status=503), ending=False)
    assert deserved(record(0, 1, "rejected", status=503), ending=True)
    assert not deserved(record(0, 1, "lost", status=0), ending=True)


def test_a_picture_of_memory() -> None:
    drawn = svg([[0.0, 100.0], [60.0, 110.0]])
    assert drawn.startswith("<svg")
    assert "60 s" in drawn


@pytest.fixture
def files(artifact: Artifact, checkpoint_folder: Path, rerank_artifact: Artifact, tmp_path: Path) -> Files:
    return Files(checkpoint_folder, artifact.folder, rerank_artifact.folder, tmp_path)


def test_a_scenario_on_the_server(files: Files) -> None:
    plan = Plan(files, ["idle", "rerank"], seconds=0.6, threads=1, bulk_texts=8, most_texts=64)
    found = study.study(plan, [OWN])
    (measured,) = found["systems"].values()
    assert measured["cosine"] > 0.999
    idle = measured["scenarios"]["idle"]
    assert idle["query"]["outcomes"] == {"answered": 6}
    assert idle["added"]["queries"] >= 1
    assert idle["health_ms"]["worst"] > 0
    ranked = measured["scenarios"]["rerank"]
    interval = max(plan.seconds / 2, RERANK_SHARE * ranked["rerank_alone_ms"] / 1e3)  # a slow machine gets one alone
    assert ranked["rerank"]["outcomes"] == {"answered": 2 if interval < plan.seconds else 1}
    assert measured["derived"]["query_ms"] == idle["query"]["ms"]
    lines = serving_table(found | {"systems": found["systems"] | {"other": {"unavailable": "no wheel"}}})
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(COLUMNS) + 1}


def test_the_soak_loses_nothing(files: Files, tokenizer: Tokenizer) -> None:
    found = run(files, seconds=2.0, load=0.3, threads=1, port=None, most_texts=256)
    assert found["failures"] == []
    assert found["ended"]["code"] == 0
    assert found["in_flight"]["outcomes"] == {"answered 200": 35}
    mix = Mix(Texts(tokenizer, 16))
    assert all(mix.good(kind)[2] for kind in mix.kinds if not kind.startswith(BAD))
