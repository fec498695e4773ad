"""Coroutines give the same bits as the classes that they wrap, and give up their place when they are cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest

from quoit import AsyncEmbedder, AsyncReranker, DeadlineError, Embedder, InputError, Reranker, Waiting
from quoit.artifact import Artifact
from quoit.engine.scheduler import Scheduler

TEXTS = ["water", "fire and water", "a long text " * 60, ""]
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_every_method_gives_the_bits_of_the_embedder(embedder: Embedder) -> None:
    async def work() -> None:
        async with AsyncEmbedder(embedder) as model:
            assert (await model.encode(TEXTS) == embedder.encode(TEXTS)).all()
            assert (await model.encode_document(TEXTS, dim=32) == embedder.encode_document(TEXTS, dim=32)).all()
            assert (await model.encode_query("water") == embedder.encode_query("water")).all()
            found = await model.encode_query(TEXTS, instruction="find elements", dtype="float16")
            assert (found == embedder.encode_query(TEXTS, instruction="find elements", dtype="float16")).all()
            assert (await model.encode([])).shape == (0, embedder.dim)
            windows = [window async for window in model.encode_stream(iter(TEXTS), prompt="p: ")]
            assert (np.concatenate(windows) == np.concatenate([*embedder.encode_stream(TEXTS, prompt="p: ")])).all()

    run(work())
    embedder.encode("water")  # the model that was given is still open


def test_every_method_gives_the_bits_of_the_reranker(reranker: Reranker) -> None:
    async def work() -> None:
        async with AsyncReranker(reranker) as model:
            for options in ({}, {"top_k": 2, "return_documents": True}, {"activation": "logit", "separator": "\n\n"}):
                assert await model.rank("q", TEXTS, **options) == reranker.rank("q", TEXTS, **options)
            pairs = [("q", text) for text in TEXTS]
            assert (await model.predict(pairs) == reranker.predict(pairs)).all()
            assert await model.predict(("q", "water")) == reranker.predict(("q", "water"))
            assert await model.rank("q", []) == []

    run(work())


def test_many_calls_at_a_time_share_a_scheduler(embedder: Embedder, reranker: Reranker) -> None:
    scheduler = Scheduler()

    async def work() -> None:
        async with (
            AsyncEmbedder(embedder, scheduler=scheduler) as model,
            AsyncReranker(reranker, scheduler=scheduler) as judge,
        ):
            texts = [f"text {number % 7} " * (number % 5 + 1) for number in range(50)]
            vectors = [model.encode_query(text, waiting=Waiting(owner=text[:6])) for text in texts]
            rankings = [judge.rank(text, TEXTS) for text in texts[:10]]
            found = await asyncio.gather(*vectors)
            assert (np.stack(found) == embedder.encode_query(texts)).all()
            assert await asyncio.gather(*rankings) == [reranker.rank(text, TEXTS) for text in texts[:10]]

    run(work())
    scheduler.close()


def test_a_cancelled_call_gives_up_its_place(embedder: Embedder) -> None:
    async def work() -> None:
        async with AsyncEmbedder(embedder) as model:
            call = asyncio.create_task(model.encode([f"{number} water " * 300 for number in range(100)]))
            while not model.scheduled.scheduler.counts().queued_rows["bulk"]:
                await asyncio.sleep(0.001)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await model.encode("water", waiting=Waiting(lane="bulk"))
            counts = model.scheduled.scheduler.counts()
            assert counts.dropped["gone"] > 0

    run(work())


def test_a_timeout_is_an_error_of_quoit(embedder: Embedder) -> None:
    async def work() -> None:
        async with AsyncEmbedder(embedder) as model:
            texts = [f"{number} water " * 300 for number in range(100)]
            with pytest.raises(DeadlineError, match=r"100 texts were not done in time; try again later"):
                await model.encode(texts, waiting=Waiting(timeout=0.3))

    run(work())


def test_a_model_that_is_loaded_here_is_closed_here(artifact: Artifact) -> None:
    async def work() -> None:
        async with AsyncEmbedder(artifact.folder, precision="fp32", provider="cpu") as model:
            await model.encode("water")
        with pytest.raises(InputError, match="closed"):
            model.embedder.encode("water")

    run(work())


def test_options_with_a_loaded_model_are_refused(embedder: Embedder) -> None:
    with pytest.raises(TypeError, match="a loaded model takes no options; give precision to Embedder"):
        AsyncEmbedder(embedder, precision="int8")
    with pytest.raises(TypeError):
        run(AsyncEmbedder(embedder).encode("water", show_progress=True))  # type: ignore[arg-type]
