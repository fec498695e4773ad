"""The scenarios. Each takes a ground and returns figures; `SCENARIOS` names them in the order in which they run.

Records count from scheduled times (`load`). Scenarios that compare two rates let both sides take turns.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from statistics import median

from bench.studies.serving.figures import Figures, recovery, summary
from bench.studies.serving.ground import Ground
from bench.studies.serving.load import Job, Record, beside, closed_loop, every, open_loop, until

QUERY_SECONDS = 0.1
"""Interval of queries."""
PAUSE_SECONDS = 0.15
"""Pause between the server's query and the library's, in which the threads of the one that answered go to sleep."""
ROUNDS = 3
CLIENTS = (1, 8, 32, 64)
CLIENT_TEXTS = (64, 2_000)
"""Fewest and most texts of a round of single-text clients."""
RERANK_SECONDS, RERANKED = 5.0, 100
RERANK_SHARE = 3.0
"""Least interval of rankings, in times that one alone takes."""
OVERLOAD = 2.0
CLIENT_PATIENCE, QUERY_PATIENCE = 10.0, 2.0
"""Seconds that clients wait in an overload, for documents and for queries; they say so in a header."""
AFTER_SECONDS = 15.0
"""Seconds that queries go on after an overload."""
QUICK = 1.5
"""A query after an overload counts as quick up to so many times the 99th percentile on an idle server."""
QUITTERS, QUITTER_PATIENCE = 0.3, 1.0
QUITTER_LOAD, QUITTER_TEXTS, QUITTER_CLIENTS = 1.5, 8, 16
Scenario = Callable[[Ground], Awaitable[Figures]]


async def idle(ground: Ground) -> Figures:
    """(a) A query every 100 ms on an idle server, and what the server adds to the library's time."""
    found: Figures = {"query": summary(await queries(ground, ground.seconds))}
    if ground.library is not None:
        found["added"] = await added(ground)
    return found


async def added(ground: Ground) -> Figures:
    """A query to the server and the same one to the library in turn; medians, and the median of the differences."""
    loop = asyncio.get_running_loop()
    ours, theirs = list[float](), list[float]()
    ends = loop.time() + ground.seconds
    while loop.time() < ends or not ours:
        text = ground.texts.query()
        begin = loop.time()
        await ground.pool.send(ground.requests.embed([text], "added", query=True).message)
        ours.append(loop.time() - begin)
        await asyncio.sleep(PAUSE_SECONDS)
        theirs += await ground.ask_library([text], query=True)
        await asyncio.sleep(PAUSE_SECONDS)
    differences = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    named = {"server_ms": ours, "library_ms": theirs, "added_ms": differences}
    return {name: round(median(seconds) * 1e3, 3) for name, seconds in named.items()} | {"queries": len(ours)}


async def queries(ground: Ground, seconds: float) -> list[Record]:
    """A query every 100 ms."""
    return await open_loop(ground.pool, every(QUERY_SECONDS, ground.query, seconds))


async def bulk(ground: Ground) -> Figures:
    """(b) The same queries while one client sends bulk requests back to back, in turn with that client alone."""
    alone, together, asked = list[float](), list[float](), list[Record]()
    outcomes: list[Record] = []
    for _ in range(2):
        records = await closed_loop(ground.pool, until(ground.bulk, ground.seconds / 2))
        alone.append(summary(records)["tokens_per_second"])
        async with beside(ground.pool, QUERY_SECONDS, ground.query) as quick:
            shared = await closed_loop(ground.pool, until(ground.bulk, ground.seconds / 2))
        together.append(summary(shared)["tokens_per_second"])
        asked += quick
        outcomes += records + shared
    return {
        "query": summary(asked),
        "bulk": summary(outcomes),
        "alone_tokens_per_second": alone,
        "beside_queries_tokens_per_second": together,
    }


async def clients(ground: Ground) -> Figures:
    """(c) So many clients that send one text and wait, in turn with the library's call for the same texts at once."""
    capacity = await ground.capacity()
    per_round = capacity["requests_per_second"] * ground.seconds / 2 / ROUNDS
    number = int(min(max(per_round, CLIENT_TEXTS[0]), CLIENT_TEXTS[1]))
    rates: dict[str, list[float]] = {}
    records: dict[int, list[Record]] = {count: [] for count in CLIENTS}
    for turn in range(ROUNDS):
        texts = ground.texts.take(number)
        tokens = sum(text.tokens for text in texts)
        if ground.library is not None:
            (seconds,) = await ground.ask_library(texts)
            rates.setdefault("library", []).append(tokens / seconds)
        for count in CLIENTS[:: -1 if turn % 2 else 1]:
            done = await closed_loop(ground.pool, map(ground.single, texts), count)
            rates.setdefault(str(count), []).append(summary(done)["tokens_per_second"])
            records[count] += done
    found: Figures = {"texts": number, "each": {name: rounded(each) for name, each in rates.items()}}
    found["tokens_per_second"] = {name: round(median(each), 1) for name, each in rates.items()}
    found["clients"] = {str(count): without_rates(summary(each)) for count, each in records.items()}
    if "library" in rates:
        pairs = {name: zip(each, rates["library"], strict=True) for name, each in rates.items() if name != "library"}
        found["over_library"] = {name: round(median(a / b for a, b in each), 4) for name, each in pairs.items()}
    return found


async def rerank(ground: Ground) -> Figures:
    """(d) A ranking of 100 documents every 5 s beside the bulk client and the queries.

    Where one alone takes long, three times its time is the interval: bulk and queries go on beside it.
    """
    (alone,) = await open_loop(ground.pool, every(1.0, lambda: ground.ranking(RERANKED), 0.5))
    interval = max(min(RERANK_SECONDS, ground.seconds / 2), RERANK_SHARE * alone.latency)
    jobs = every(interval, lambda: ground.ranking(RERANKED), ground.seconds)
    async with beside(ground.pool, QUERY_SECONDS, ground.query) as asked:
        sending = asyncio.create_task(closed_loop(ground.pool, until(ground.bulk, ground.seconds)))
        ranked = await open_loop(ground.pool, jobs)
        sent = await sending
    return {
        "rerank_alone_ms": round(alone.latency * 1e3, 2),
        "interval_seconds": round(interval, 3),
        "rerank": summary(ranked),
        "query": summary(asked),
        "bulk": summary(sent),
    }


async def overload(ground: Ground) -> Figures:
    """(e) Twice the requests that the server bears, then none but a query every 100 ms, which ran all along."""
    capacity = await ground.capacity()
    await ground.rest()
    before = summary(await queries(ground, ground.seconds * 0.2))
    rate = OVERLOAD * capacity["requests_per_second"]
    lasting = 2 * ground.seconds
    loop = asyncio.get_running_loop()
    async with beside(ground.pool, QUERY_SECONDS, lambda: ground.query(QUERY_PATIENCE)) as asked:
        ended = loop.time() + lasting
        jobs = every(1 / rate, lambda: ground.documents(1, "overload", CLIENT_PATIENCE), lasting)
        records = await open_loop(ground.pool, jobs)
        await asyncio.sleep(max(ended + AFTER_SECONDS - loop.time(), 0))
    limit = QUICK * before["ms"]["p99"] / 1e3
    again = recovery(asked, ended, limit)
    goodput = sum(record.tokens for record in records if record.outcome == "answered") / lasting
    return {
        "capacity": capacity,
        "sent_per_second": round(rate, 2),
        "overload": summary(records),
        "query_before": before,
        "query_during": summary([record for record in asked if record.scheduled < ended]),
        "query_after": summary([record for record in asked if record.scheduled >= ended]),
        "quick_ms": round(limit * 1e3, 2),
        "recovery_seconds": None if again is None else round(again, 3),
        "goodput_over_capacity": round(goodput / capacity["tokens_per_second"], 4),
    }


async def quitters(ground: Ground) -> Figures:
    """(f) More than the server bears, and 30 % of the clients give up after a second."""
    capacity = await ground.capacity(QUITTER_TEXTS, QUITTER_CLIENTS)
    await ground.rest()
    random = Random(0)

    def job() -> Job:
        patience = QUITTER_PATIENCE if random.random() < QUITTERS else CLIENT_PATIENCE
        return ground.documents(QUITTER_TEXTS, "quitter" if patience == QUITTER_PATIENCE else "other", patience)

    before = await ground.counters() if ground.requests.system.own else {}
    rate = QUITTER_LOAD * capacity["requests_per_second"]
    records = await open_loop(ground.pool, every(1 / rate, job, ground.seconds))
    await ground.rest()
    answered = sum(record.tokens for record in records if record.outcome == "answered")
    goodput = answered / ground.seconds / capacity["tokens_per_second"]
    found: Figures = {
        "capacity": capacity,
        "sent_per_second": round(rate, 2),
        "all": summary(records),
        "others": summary([record for record in records if record.kind == "other"]),
        "goodput_over_capacity": round(goodput, 4),
    }
    if before:
        found["wasted"] = wasted(before, await ground.counters(), records)
    return found


def wasted(before: dict[str, float], after: dict[str, float], records: list[Record]) -> Figures:
    """What quoit computed for clients that had given up, by its own counters."""

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    given_up = [record for record in records if record.outcome == "gave up"]
    computed = grown('quoit_tokens_total{kind="given"}')
    answered = sum(record.tokens for record in records if record.outcome == "answered")
    lost = sum(record.tokens for record in given_up)
    return {
        "texts_given_up": sum(record.texts for record in given_up),
        "texts_dropped_gone": grown('quoit_rows_dropped_total{reason="gone"}'),
        "texts_dropped_deadline": grown('quoit_rows_dropped_total{reason="deadline"}'),
        "tokens_given_up": lost,
        "tokens_computed": computed,
        "tokens_computed_for_nobody": computed - answered,
        "share_computed_of_given_up": round((computed - answered) / lost, 4) if lost else 0.0,
    }


def rounded(values: list[float]) -> list[float]:
    """Rates with one digit."""
    return [round(value, 1) for value in values]


def without_rates(found: Figures) -> Figures:
    """A summary of several rounds, whose rates would count the pauses between them."""
    return {name: value for name, value in found.items() if not name.endswith("_per_second") and name != "seconds"}


SCENARIOS: dict[str, Scenario] = {
    "idle": idle,
    "bulk": bulk,
    "clients": clients,
    "rerank": rerank,
    "overload": overload,
    "quitters": quitters,
}
OWN_SCENARIOS = frozenset({"rerank"})
"""Scenarios that quoit alone can run: the others cannot rank with this checkpoint."""


async def run(ground: Ground, names: list[str]) -> None:
    """Run scenarios one after another, each watched, with a rest before it; results go to `ground.found`."""
    for name in names:
        if name in OWN_SCENARIOS and not ground.requests.system.own:
            ground.found[name] = {"unavailable": "it cannot rank with this checkpoint"}
            continue
        rested = await ground.rest()
        async with ground.watched() as watch:
            found = await SCENARIOS[name](ground)
        ground.found[name] = found | watch | {"rested_before": rested}
