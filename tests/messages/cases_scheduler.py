"""Errors of the scheduler and of the classes for event loops."""

import asyncio
import math
import time
from collections.abc import Callable

from messages.harness import Case, World
from quoit import AsyncEmbedder, DeadlineError, InputError, OverloadedError, Waiting
from quoit.engine.scheduler import Request, Scheduler, Terms

WORDS = [f"{number} water " * 40 for number in range(400)]


def a_share_beyond_one(_: World) -> object:
    return Scheduler(bulk_share=1.5)


def submit_after_closing(world: World) -> object:
    scheduler = Scheduler()
    scheduler.close()
    return scheduler.submit(world.embedder().pipeline, [[1, 2]], Terms())


def with_much_work(more: Callable[[Scheduler, World], object], tokens: int = 10**9) -> Callable[[World], object]:
    """Something that is submitted while much is queued."""

    def trigger(world: World) -> object:
        scheduler = Scheduler(max_queued_tokens=tokens)
        try:
            pipeline = world.embedder().pipeline
            rows = pipeline.tokenizer.encode(WORDS).ids
            scheduler.submit(pipeline, rows[:1], Terms()).future.result()
            scheduler.submit(pipeline, rows, Terms())
            return more(scheduler, world)
        finally:
            scheduler.close()

    return trigger


def submit(scheduler: Scheduler, world: World, deadline: float = math.inf) -> Request:
    return scheduler.submit(world.embedder().pipeline, [[1, 2, 3]], Terms(deadline=deadline))


def submit_in_a_hurry(scheduler: Scheduler, world: World) -> Request:
    pipeline = world.embedder().pipeline
    scheduler._rates[id(pipeline), "bulk"] = 1.0  # a slow machine
    return scheduler.submit(pipeline, [[1, 2, 3]], Terms(deadline=time.monotonic() + 0.001))


def submit_what_begins_in_time(scheduler: Scheduler, world: World) -> Request:
    """What is ahead takes ten seconds, and the margin is one more."""
    pipeline = world.embedder().pipeline
    with scheduler._lock:
        scheduler._rates[id(pipeline), "bulk"] = sum((*scheduler._tokens.values(), *scheduler._taken.values())) / 10
        return scheduler.submit(pipeline, [[1, 2, 3]], Terms(deadline=time.monotonic() + 10.5))


def options_with_a_loaded_model(world: World) -> object:
    return AsyncEmbedder(world.embedder(), precision="int8")


def too_little_time(world: World) -> object:
    async def work() -> object:
        async with AsyncEmbedder(world.embedder()) as model:
            return await model.encode(WORDS, waiting=Waiting(timeout=0.01))

    return asyncio.run(work())


CASES = [
    Case("a share beyond one", a_share_beyond_one, InputError, "bulk_share 1.5", "choose a number from 0 to 1"),
    Case("a closed scheduler", submit_after_closing, InputError, "the scheduler was closed", "make another one"),
    Case(
        "a full queue",
        with_much_work(submit, tokens=10),
        OverloadedError,
        "3 more would be above 10",
        "try again later",
    ),
    Case("no time", with_much_work(submit_in_a_hurry), OverloadedError, "waits for 0.0 s at most", "try again later"),
    Case(
        "no time to the end",
        with_much_work(submit_what_begins_in_time),
        OverloadedError,
        "this request's 3 would be done after 11",
        "try again later, or wait longer",
    ),
    Case("a late answer", too_little_time, DeadlineError, "400 texts", "send fewer, or wait longer"),
    Case("a loaded model's options", options_with_a_loaded_model, TypeError, "precision", "to Embedder"),
]
