"""Embed and rerank from an event loop: many callers share one model, and queries do not wait for bulk work.

For services that embed quoit. `quoit serve` is built on this module.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Never, Self, SupportsIndex, TypeVar

import numpy as np

from quoit.arguments import flag, refuse_unknown, with_synonyms
from quoit.artifact import Artifact
from quoit.embedder import Embedder
from quoit.engine.pipeline import take_windows
from quoit.engine.pooling import DtypeLike, Output, Ranges, Vectors, finish
from quoit.engine.scheduled import WAITING, ScheduledModel, Waiting
from quoit.engine.scheduler import Scheduler
from quoit.engine.scoring import Activation, Scores, activate, check_finite, check_top_k
from quoit.reranker import Ranked, Reranker, Scoring, make_ranking
from quoit.text.containers import Pairs, each_text, list_pairs, list_texts
from quoit.text.prompts import (
    Pair,
    Prompt,
    Separator,
    check_text,
    check_texts,
    document_prompt,
    join_pairs,
    query_prompt,
)

__all__ = ["AsyncEmbedder", "AsyncReranker", "Waiting"]

Model = TypeVar("Model", Embedder, Reranker)


class AsyncModel:
    """What both classes have in common.

    Attributes:
        scheduled: the model on the event loop.
    """

    def __init__(self, model: Embedder | Reranker, scheduler: Scheduler | None, *, own: bool) -> None:
        """Put a model on the event loop.

        Args:
            model: the loaded model.
            scheduler: the scheduler; None for a new one.
            own: True to close the model with this object.
        """
        self._closing = ExitStack()
        if own:
            self._closing.callback(model.close)
        if scheduler is None:
            scheduler = Scheduler()
            self._closing.callback(scheduler.close)
        self.scheduled = ScheduledModel(model.pipeline, scheduler)
        self._closing.callback(self.scheduled.close)

    async def aclose(self) -> None:
        """Refuse later calls, and end what was opened here: the scheduler and the model, unless they were given."""
        await asyncio.to_thread(self._closing.close)

    async def __aenter__(self) -> Self:
        """Return the model itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what was opened here."""
        await self.aclose()


class AsyncEmbedder(AsyncModel):
    """An `Embedder` for an event loop, with the same methods as coroutines, and the same bits.

        async with AsyncEmbedder("models/qwen3-embedding-0.6b") as embedder:
            vector = await embedder.encode_query("What is the capital of China?")

    Calls may overlap: texts of several calls run in one batch, equal texts once, and queries are not held up by bulk
    work. A cancelled call gives up its place. `waiting` says how a call waits its turn.
    """

    def __init__(
        self, model: Embedder | str | Path | Artifact, *, scheduler: Scheduler | None = None, **options: Any
    ) -> None:
        """Load a model, or take a loaded one.

        Args:
            model: a loaded `Embedder`, or what `Embedder` takes.
            scheduler: a scheduler that other models run in too; by default one of this object's own.
            **options: options of `Embedder`, for a model that is loaded here.

        Raises:
            TypeError: an option is unknown, or was given with a loaded model.
        """
        self.embedder = _loaded(Embedder, model, options)
        super().__init__(self.embedder, scheduler, own=self.embedder is not model)

    @with_synonyms
    async def encode(
        self,
        texts: str | Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        waiting: Waiting = WAITING,
        **unknown: Never,
    ) -> Vectors:
        """Return vectors as `Embedder.encode` does.

        Args:
            texts: as there.
            prompt: as there.
            prompt_name: as there.
            dim: as there.
            normalize: as there.
            dtype: as there.
            ranges: as there.
            waiting: how the call waits its turn.
            **unknown: Refused; the error names the matching option.

        Raises:
            OverloadedError: the vectors would come after the timeout, or too much work is queued.
            DeadlineError: they did not come before the timeout.
            Others: as `Embedder.encode` does.
        """
        refuse_unknown(AsyncEmbedder, "encode", unknown)
        before = self.embedder.plain_prompt(prompt, prompt_name)
        return await self._encode(before, texts, Output(dim, normalize, dtype, ranges), waiting)

    @with_synonyms
    async def encode_document(
        self,
        texts: str | Iterable[str],
        *,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        waiting: Waiting = WAITING,
        **unknown: Never,
    ) -> Vectors:
        """Return vectors as `Embedder.encode_document` does; see `encode`."""
        refuse_unknown(AsyncEmbedder, "encode_document", unknown)
        prompt = document_prompt(self.embedder.contract.prompts)
        return await self._encode(prompt, texts, Output(dim, normalize, dtype, ranges), waiting)

    @with_synonyms
    async def encode_query(
        self,
        texts: str | Iterable[str],
        *,
        instruction: str | None = None,
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        waiting: Waiting = WAITING,
        **unknown: Never,
    ) -> Vectors:
        """Return vectors as `Embedder.encode_query` does; see `encode`."""
        refuse_unknown(AsyncEmbedder, "encode_query", unknown)
        prompt = query_prompt(self.embedder.contract.prompts, instruction)
        return await self._encode(prompt, texts, Output(dim, normalize, dtype, ranges), waiting)

    async def encode_stream(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        dim: SupportsIndex | None = None,
        normalize: bool = True,
        dtype: DtypeLike = "float32",
        ranges: Ranges | None = None,
        waiting: Waiting = WAITING,
        **unknown: Never,
    ) -> AsyncIterator[Vectors]:
        """Yield the vectors of any number of texts, some thousands at a time, as `Embedder.encode_stream` does."""
        refuse_unknown(AsyncEmbedder, "encode_stream", unknown)
        output = self.embedder.check_output(Output(dim, normalize, dtype, ranges))
        before = Prompt(prompt)
        for window in take_windows(check_texts(each_text(texts))):
            answered = await self.scheduled.answer(window, before, waiting)
            yield await self.scheduled.apart(finish, answered.answers, output)

    async def _encode(self, prompt: Prompt, texts: str | Iterable[str], output: Output, waiting: Waiting) -> Vectors:
        output = self.embedder.check_output(output)
        if isinstance(texts, str):
            one: Vectors = (await self._encode(prompt, [texts], output, waiting))[0]
            return one
        listed = list_texts(texts)
        windows = []
        for window in take_windows(listed):
            answered = await self.scheduled.answer(window, prompt, waiting)
            self.embedder.pipeline.report(answered.truncation, len(window))
            windows.append(await self.scheduled.apart(finish, answered.answers, output))
        return np.concatenate(windows) if windows else finish(np.empty((0, self.embedder.dim), np.float32), output)


class AsyncReranker(AsyncModel):
    """A `Reranker` for an event loop, with the same methods as coroutines, and the same bits; see `AsyncEmbedder`."""

    def __init__(
        self, model: Reranker | str | Path | Artifact, *, scheduler: Scheduler | None = None, **options: Any
    ) -> None:
        """Load a model, or take a loaded one; see `AsyncEmbedder`."""
        self.reranker = _loaded(Reranker, model, options)
        super().__init__(self.reranker, scheduler, own=self.reranker is not model)

    @with_synonyms
    async def rank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_k: SupportsIndex | None = None,
        return_documents: bool = False,
        instruction: str | None = None,
        separator: Separator = "\n",
        activation: Activation = "sigmoid",
        waiting: Waiting = WAITING,
        **unknown: Never,
    ) -> list[Ranked]:
        """Rank documents as `Reranker.rank` does; `waiting` says how the call waits its turn."""
        refuse_unknown(AsyncReranker, "rank", unknown)
        query = check_text(query, "query")
        most, texts_too = check_top_k(top_k), flag("return_documents", return_documents)
        texts = list_texts(documents, "documents")
        scoring = Scoring(instruction, separator, activation)
        logits = await self._score([(query, text) for text in texts], scoring, waiting)
        return make_ranking(logits, texts, activation=activation, top_k=most, return_documents=texts_too)

    @with_synonyms
    async def predict(
        self,
        pairs: Pairs | Pair | list[str],
        *,
        instruction: str | None = None,
        separator: Separator = "\n",
        activation: Activation = "sigmoid",
        waiting: Waiting = WAITING,
        **unknown: Never,
    ) -> Scores | np.float32:
        """Return the scores of pairs as `Reranker.predict` does; `waiting` says how the call waits its turn."""
        refuse_unknown(AsyncReranker, "predict", unknown)
        found, single = list_pairs(pairs)
        scores = activate(await self._score(found, Scoring(instruction, separator, activation), waiting), activation)
        return np.float32(scores[0]) if single else scores

    async def _score(self, pairs: list[Pair], scoring: Scoring, waiting: Waiting) -> Scores:
        scoring.check()
        prompt = self.reranker.prompt(scoring.instruction, scoring.separator)
        logits = []
        for window in take_windows(join_pairs(pairs, scoring.separator)):
            answered = await self.scheduled.answer(window, prompt, waiting)
            self.reranker.pipeline.report(answered.truncation, len(window))
            logits.append(check_finite(answered.answers))
        return np.concatenate(logits) if logits else np.empty(0, np.float32)


def _loaded(kind: type[Model], model: Model | str | Path | Artifact, options: dict[str, Any]) -> Model:
    """Return a loaded model; options are for one that is loaded here."""
    if isinstance(model, (str, Path, Artifact)):
        return kind(model, **options)
    if options:
        raise TypeError(f"a loaded model takes no options; give {', '.join(options)} to {kind.__name__}")
    return model
