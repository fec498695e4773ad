"""Rounds: systems take turns within each, in another order every time, one at work and the others at rest.

The anchor works before and after every other system, so a ratio has both its sides in the same minutes. This module
does not know where the systems come from nor what becomes of the figures.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.environments import UnavailableError
from bench.side_by_side.client import Worker, stopping
from bench.side_by_side.store import Store
from bench.side_by_side.systems import ANCHOR, System
from bench.side_by_side.workloads import RERANK_QUERY, Workload

REST_SECONDS = 0.1
"""Pause between two turns: thread pools stop waiting for work in it."""
SHORT_SECONDS = 0.5
"""Minimum seconds of a turn; a shorter one is repeated."""
MIN_ROUNDS = 2
"""Minimum rounds of a system; one where a round takes longer than its seconds for a workload."""
CHECKED_TEXTS = 100
WARM_UP_TEXTS = 8
COLD_STARTS = 4
"""Starts of a fresh process; the first brings files into the page cache and is dropped."""
WARM_UP_TOKENS = 2_000
"""Maximum tokens of a workload that runs once before its first round."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        systems: by name, with what their adapters are given.
        workloads: for one task.
        check: texts whose vectors or scores are compared between systems.
        threads: for each system.
        rounds: maximum rounds; None for each workload's own number.
        seconds: approximate seconds of a system on one workload; slow systems get fewer rounds.
        memory: bytes that all systems at rest together may take.
    """

    systems: dict[str, tuple[System, dict[str, Any]]]
    workloads: Sequence[Workload]
    check: Workload
    threads: int
    rounds: int | None
    seconds: float
    memory: float

    @property
    def what(self) -> str:
        """What is measured, in a few words."""
        return f"{self.check.kind}, {self.threads} threads"


def say(line: str) -> None:
    """Progress, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def groups(plan: Plan, checkpoint_bytes: int) -> Iterable[list[str]]:
    """The systems in groups that fit into memory together, each with the anchor."""
    room = plan.memory - plan.systems[ANCHOR][0].memory * checkpoint_bytes
    group, taken = [ANCHOR], 0.0
    for name, (system, _) in plan.systems.items():
        needed = system.memory * checkpoint_bytes
        if name == ANCHOR:
            continue
        if len(group) > 1 and taken + needed > room:
            yield group
            group, taken = [ANCHOR], 0.0
        group.append(name)
        taken += needed
    yield group


def turn(worker: Worker, workload: Workload, keep: Path | None = None, least: float | None = None) -> list[float]:
    """The seconds of every call of one turn; what does not take long is repeated."""
    least = SHORT_SECONDS if least is None else least
    spent: list[float] = []
    while not spent or sum(spent) < least:
        if workload.kind == "rerank":
            request: dict[str, Any] = {"query": RERANK_QUERY, "documents": workload.texts}
            answer = worker.ask("score", keep=keep and str(keep), **request)
        else:
            request = {"texts": workload.texts, "query": workload.kind == "query", "apart": workload.apart}
            answer = worker.ask("encode", keep=keep and str(keep), **request)
        spent += answer["seconds"]
    return spent


def wanted(plan: Plan, store: Store, workload: Workload, name: str) -> int:
    """How many rounds of a workload a system is to have had in the end."""
    most = workload.rounds if plan.rounds is None else min(plan.rounds, workload.rounds)
    done = store.done(plan.threads, workload.name, name)
    if not done:
        return most
    affordable = int(plan.seconds / float(np.median([sum(seconds) for seconds in done])))
    return min(most, max(affordable, MIN_ROUNDS) if affordable else 1)


def missing(plan: Plan, store: Store, workload: Workload, name: str) -> int:
    """How many rounds a system still has to go."""
    return max(wanted(plan, store, workload, name) - len(store.done(plan.threads, workload.name, name)), 0)


def start(plan: Plan, store: Store, names: list[str], workers: dict[str, Worker]) -> None:
    """Loads the systems of a group, and checks the vectors of those that were not checked yet."""
    for name in names:
        system, config = plan.systems[name]
        worker = Worker(system, config, plan.threads, store.folder / f"{system.adapter}.log")
        workers[name] = worker
        try:
            loaded = worker.ask("load")
            vectors = store.vectors(f"{plan.check.name} {name}")
            few = Workload(
                "warm-up", plan.check.kind, plan.check.texts[:WARM_UP_TEXTS], plan.check.lengths[:WARM_UP_TEXTS]
            )
            turn(worker, few, least=0)
            if not vectors.is_file():
                turn(worker, plan.check, vectors, least=0)
        except UnavailableError as error:
            give_up(store, workers, name, plan.what, error)
            continue
        store.explain(name, plan.what, None)
        store.learn(name, versions=loaded["versions"])
        say(f"{name}: loaded in {loaded['seconds'][0]:.1f} s, {worker.memory()['resident'] / 1e9:.2f} GB")


def give_up(store: Store, workers: dict[str, Worker], name: str, what: str, error: UnavailableError) -> None:
    """Stops a system that failed at something, and keeps the reason."""
    say(f"{name} cannot run {what}: {error}")
    workers.pop(name).stop()
    store.explain(name, what, str(error))


def measure(plan: Plan, store: Store, checkpoint_bytes: int) -> None:
    """All rounds that are missing."""
    for group in groups(plan, checkpoint_bytes):
        todo = [name for name in group if any(missing(plan, store, each, name) for each in plan.workloads)]
        if not todo:
            continue
        workers: dict[str, Worker] = {}
        with stopping(workers):
            start(plan, store, list(dict.fromkeys([ANCHOR, *todo])), workers)
            if ANCHOR not in workers:
                raise SystemExit(f"{ANCHOR} cannot run, and nothing is measured without it; see above")
            for workload in plan.workloads:
                measure_workload(plan, store, workers, workload)
            for name, worker in workers.items():
                memory = store.facts()[name].get("memory", {})
                store.learn(name, memory=memory | {plan.what: worker.memory()})


@dataclass(frozen=True)
class Turns:
    """The turns of one round.

    Attributes:
        workers: the systems that are loaded.
        workload: what they do.
        warm: whether a system's first turn comes after one that does not count.
        seconds: by system, of every call.
        beside: by system, the anchor's calls just before and just after its turn.
        others: by system, the processor time of those at rest during its turns.
    """

    workers: dict[str, Worker]
    workload: Workload
    warm: bool
    seconds: dict[str, list[float]] = field(default_factory=dict)
    beside: dict[str, list[float]] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)

    def take(self, name: str) -> list[float]:
        """The seconds of a system's turn."""
        resting = [worker for other, worker in self.workers.items() if other != name]
        before = sum(worker.cpu_seconds() for worker in resting)
        if self.warm and name not in self.seconds:
            turn(self.workers[name], self.workload, least=0)
        spent = turn(self.workers[name], self.workload)
        self.seconds.setdefault(name, []).extend(spent)
        self.others[name] = self.others.get(name, 0) + sum(worker.cpu_seconds() for worker in resting) - before
        time.sleep(REST_SECONDS)
        return spent


def measure_workload(plan: Plan, store: Store, workers: dict[str, Worker], workload: Workload) -> None:
    """The rounds of one workload; the anchor has a turn between any two of the others, before and after them."""
    number = 0
    while todo := [name for name in workers if missing(plan, store, workload, name)]:
        order = deque(name for name in todo if name != ANCHOR)
        order.rotate(-number)
        turns = Turns(workers, workload, warm=number == 0 and workload.tokens <= WARM_UP_TOKENS)
        before = attempt(plan, store, turns, ANCHOR)
        for name in order:
            if attempt(plan, store, turns, name):
                after = attempt(plan, store, turns, ANCHOR)
                turns.beside[name] = before + after
                before = after
        about = {"load": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%S")}
        found = {"seconds": turns.seconds, "beside": turns.beside, "others": turns.others}
        store.add({"threads": plan.threads, "workload": workload.name} | found | about)
        number += 1
        say(f"{plan.threads} threads, {workload.name}, round {number}: {describe(workload, turns.seconds)}")
        left = sum(
            missing(plan, store, workload, name)
            * float(np.median([sum(s) for s in store.done(plan.threads, workload.name, name)]))
            for name in turns.seconds
        )
        say(f"  about {left / 60:.1f} min more of this workload")


def attempt(plan: Plan, store: Store, turns: Turns, name: str) -> list[float]:
    """The seconds of a system's turn; none where it failed and was given up."""
    what = f"{turns.workload.name}, {plan.threads} threads"
    try:
        spent = turns.take(name)
    except UnavailableError as error:
        give_up(store, turns.workers, name, what, error)
        if name == ANCHOR:
            raise SystemExit(f"{ANCHOR} failed: {error}") from error
        return []
    store.explain(name, what, None)
    return spent


def describe(workload: Workload, seconds: dict[str, list[float]]) -> str:
    """Rates of one round, in words."""
    if workload.apart:
        return ", ".join(f"{name} {np.median(spent) * 1e3:.0f} ms" for name, spent in seconds.items())
    return ", ".join(f"{name} {workload.tokens / np.mean(spent):.0f} tokens/s" for name, spent in seconds.items())


def cold_starts(plan: Plan, store: Store, query: Workload) -> None:
    """Seconds from a fresh process to the first query's vector, and its memory after all queries in one call."""
    one = Workload(query.name, query.kind, query.texts[:1], query.lengths[:1])
    together = Workload(query.name, query.kind, query.texts, query.lengths)
    for name, (system, config) in plan.systems.items():
        known = store.facts().get(name, {}).get("cold", {})
        if str(plan.threads) in known:
            continue
        starts: list[float] = []
        memory: dict[str, int] = {}
        try:
            for _ in range(COLD_STARTS):
                with Worker(system, config, plan.threads, store.folder / f"{system.adapter}-cold.log") as worker:
                    worker.ask("load")
                    turn(worker, one, least=0)
                    starts.append(time.perf_counter() - worker.started)
                    turn(worker, together, least=0)
                    memory = worker.memory()
        except UnavailableError as error:
            say(f"{name} cannot start: {error}")
            continue
        found = {"seconds": starts[1:], "memory": memory}
        store.learn(name, cold=known | {str(plan.threads): found})
        say(f"{name}: first vector after {np.median(starts[1:]):.2f} s, {memory['peak'] / 1e9:.2f} GB at most")
