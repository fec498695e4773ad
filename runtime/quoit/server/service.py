"""Answer requests in the server's own terms: limits, tokens, the scheduler, vectors and scores.

Dialects make an `Embed` or a `Rerank`, and turn an `Embedded` or a `Scored` into their JSON.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from quoit.aio import AsyncEmbedder, AsyncReranker
from quoit.engine.pooling import Dtype, Output, Vectors, finish
from quoit.engine.scheduled import Answered, ScheduledModel, Tokenized, Waiting
from quoit.engine.scoring import Activation, Scores, activate, check_finite
from quoit.errors import QuoitError
from quoit.reranker import Scoring
from quoit.server.call import Call
from quoit.server.metrics import Metrics
from quoit.server.prompting import PromptFields, Prompts, Role, prompted_twice
from quoit.server.refusals import RequestError, refusal_of, wrong
from quoit.server.settings import Settings
from quoit.text.prompts import Prompt, check_text, check_texts, join_pairs
from quoit.text.tokenizer import TokenRows

SIGNED_LEVELS = 127
"""Largest value of an int8 vector whose scale is its own."""
INLINE_VALUES = 1 << 16
"""Maximum number of values that the event loop converts by itself; more are converted in a thread."""

logger = logging.getLogger("quoit.server")


@dataclass(frozen=True, kw_only=True)
class Embed:
    """A request for vectors.

    Attributes:
        texts: the texts; empty if there are token ids.
        ids: rows of the model's own token ids, with or without the end token.
        fields: what says which prompt the texts follow.
        model: the name of the model, as the caller wrote it.
        dimensions: number of values that are kept; None for all.
        normalize: scale vectors to unit length.
        truncate: cut texts that are too long; else refuse them.
        max_tokens: number of tokens that texts are cut to; None for the model's limit.
        priority: lower goes first.
        param: name of the field that has the texts, for errors.
    """

    texts: Sequence[str] = ()
    ids: Sequence[Sequence[int]] = ()
    fields: PromptFields = field(default_factory=PromptFields)
    model: str | None = None
    dimensions: int | None = None
    normalize: bool = True
    truncate: bool = True
    max_tokens: int | None = None
    priority: int | None = None
    param: str = "input"


@dataclass(frozen=True, kw_only=True)
class Rerank:
    """A request for the scores of pairs; see `quoit.reranker.Scoring`.

    Attributes:
        pairs: queries and documents.
        model: the name of the model, as the caller wrote it.
        instruction: the task that documents are judged by; None for the official one.
        activation: `sigmoid` or `logit`.
        truncate: cut pairs that are too long; else refuse them.
        max_document_tokens: number of tokens that documents are cut to; None for as many as fit.
        max_tokens: number of tokens that pairs are cut to, template included; None for the model's limit.
        priority: lower goes first.
        param: name of the field that has the documents, for errors.
    """

    pairs: Sequence[tuple[str, str]]
    model: str | None = None
    instruction: str | None = None
    activation: Activation = "sigmoid"
    truncate: bool = True
    max_document_tokens: int | None = None
    max_tokens: int | None = None
    priority: int | None = None
    param: str = "documents"


@dataclass(frozen=True)
class Embedded:
    """Vectors, [n, dim] float32, the model's name, and the number of tokens."""

    vectors: Vectors
    model: str
    tokens: int


@dataclass(frozen=True)
class Scored:
    """Scores, [n] float32, the model's name, and the number of tokens."""

    scores: Scores
    model: str
    tokens: int


@dataclass(frozen=True)
class Models:
    """What the server has loaded.

    Attributes:
        embedder: the embedder, if there is one.
        reranker: the reranker, if there is one.
        embedder_name: name that it is served under.
        reranker_name: name that it is served under.
    """

    embedder: AsyncEmbedder | None
    reranker: AsyncReranker | None
    embedder_name: str = ""
    reranker_name: str = ""


class Service:
    """Answers requests on the event loop."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics) -> None:
        self.models = models
        self.settings = settings
        self.metrics = metrics
        self.prompts = (
            None if models.embedder is None else Prompts(models.embedder.embedder.contract, settings.default_prompt)
        )
        self._warned = False

    async def embed(self, ask: Embed, call: Call) -> Embedded:
        """Return the vectors of a request.

        Raises:
            RequestError: a value is out of bounds.
            QuoitError: an error of the engine.
        """
        model, prompts = self.embedder(), self.prompts
        assert prompts is not None
        name, alias = self._named(ask.model or call.path_model, self.models.embedder_name, call)
        least, most = min(model.embedder.contract.min_dim, model.embedder.dim), model.embedder.dim
        if ask.dimensions is not None and not least <= ask.dimensions <= most:
            raise wrong(f"dimensions {ask.dimensions} is out of bounds; use {least} to {most}", "dimensions")
        output = Output(ask.dimensions, ask.normalize).check(min_dim=least, hidden_size=most)
        prompt = prompts.choose(ask.fields, call.headers.get("x-quoit-prompt"), alias)
        waiting = call.waiting(ask.priority)
        self._check_count(len(ask.texts) + len(ask.ids), self.settings.max_texts, ask.param, call)
        scheduled = model.scheduled
        limit = check_limit(ask.max_tokens, scheduled, ask.param)
        if ask.ids:
            tokenized = await self._given_ids(ask, prompt, scheduled, waiting, limit)
        else:
            texts = list(check_texts(ask.texts))
            self.metrics.prompted_twice(prompted_twice(prompt, texts))
            tokenized = await scheduled.tokenize(texts, prompt, waiting, limit)
        self._check_rows(tokenized.rows, limit, truncate=ask.truncate, param=ask.param)
        answered = await scheduled.answer_rows(tokenized, prompt, waiting)
        self._note(answered, call)
        if answered.answers.size > INLINE_VALUES:
            vectors = await scheduled.apart(finish, answered.answers, output)
        else:
            vectors = finish(answered.answers, output)
        return Embedded(vectors, name, answered.tokens)

    async def rerank(self, ask: Rerank, call: Call) -> Scored:
        """Return the scores of a request.

        Raises:
            RequestError: a value is out of bounds.
            QuoitError: an error of the engine.
        """
        model = self.reranker()
        name, _ = self._named(ask.model or call.path_model, self.models.reranker_name, call)
        waiting = call.waiting(ask.priority)
        self._check_count(len(ask.pairs), self.settings.max_documents, ask.param, call)
        scoring = Scoring(ask.instruction, activation=ask.activation)
        scoring.check()
        prompt = model.reranker.prompt(ask.instruction, scoring.separator)
        scheduled = model.scheduled
        limit = check_limit(ask.max_tokens, scheduled, ask.param)
        pairs = ask.pairs
        if ask.max_document_tokens is not None:
            pairs = await scheduled.apart(cut_documents, pairs, scheduled, ask.max_document_tokens)
        tokenized = await scheduled.tokenize(list(join_pairs(pairs, scoring.separator)), prompt, waiting, limit)
        self._check_rows(tokenized.rows, limit, truncate=ask.truncate, param=ask.param)
        answered = await scheduled.answer_rows(tokenized, prompt, waiting)
        self._note(answered, call)
        return Scored(activate(check_finite(answered.answers), ask.activation), name, answered.tokens)

    def check_load(self, call: Call) -> None:
        """Refuse a request before its body is read, if it could begin to run in time for no model and in no lane.

        Raises:
            RequestError: even a query would wait too long.
        """
        terms = call.waiting(None).terms(0, "embedding", call.arrived)
        refused: QuoitError | None = None
        for model in (self.models.embedder, self.models.reranker):
            if model is not None:
                try:
                    model.scheduled.scheduler.check(model.scheduled.pipeline, 0, terms)
                except QuoitError as error:  # overloaded, or ending
                    refused = error
                else:
                    return
        if refused is not None:
            raise refusal_of(refused)

    def embedder(self) -> AsyncEmbedder:
        """Return the embedder.

        Raises:
            RequestError: there is none.
        """
        if self.models.embedder is None:
            raise RequestError(
                424, "this server has no embedding model; start it with one, or ask for a ranking", "model_kind"
            )
        return self.models.embedder

    def reranker(self) -> AsyncReranker:
        """Return the reranker.

        Raises:
            RequestError: there is none.
        """
        if self.models.reranker is None:
            raise RequestError(424, "this server has no reranker; start it with --reranker FOLDER", "model_kind")
        return self.models.reranker

    def _named(self, given: str | None, name: str, call: Call) -> tuple[str, Role | None]:
        """Return the model's name as the caller wrote it, and what its suffix says of the texts.

        Raises:
            RequestError: the name is of another model, and names count.
        """
        if given is None:
            return name, None
        base, alias = split_alias(given)
        if base != name:
            if self.settings.strict_model:
                raise RequestError(
                    404, f"model {given[:80]!r} is not served here; use {name!r}", "model_not_found", "model"
                )
            call.reply_headers["x-quoit-model"] = name.encode(
                "ascii", "backslashreplace"
            ).decode()  # headers are Latin-1
            if not self._warned:
                self._warned = True
                logger.warning("a request names model %r, and %r answers; --strict-model refuses it", given[:80], name)
        return given, alias

    def _check_count(self, count: int, most: int, param: str, call: Call) -> None:
        call.texts = count
        if count > most:
            raise wrong(f"{param} has {count:,} items; send {most:,} at most", param, "too_many_items")

    async def _given_ids(
        self, ask: Embed, prompt: Prompt, scheduled: ScheduledModel, waiting: Waiting, limit: int
    ) -> Tokenized:
        """Return rows of the caller's own token ids; behind a prompt, of the texts that these ids are."""
        if not self.settings.token_ids:
            raise wrong(
                "token ids are refused, since those of another tokenizer would give vectors of other texts; send texts "
                "(LangChain: check_embedding_ctx_length=False), or start the server with --token-ids for ids of this "
                "model's own tokenizer",
                ask.param,
            )
        pipeline = scheduled.pipeline
        last = pipeline.artifact.manifest.vocab_size - 1
        for row in ask.ids:
            if row and not (min(row) >= 0 and max(row) <= last):
                raise wrong(f"{ask.param} has a token id outside 0 to {last}; use this model's tokenizer", ask.param)
        tokenizer = pipeline.tokenizer
        given = [without_end(row, tokenizer.after.tolist()) for row in ask.ids]
        if prompt.text:
            # The tokenizer may join the prompt's last character to a text's first one, so the texts are needed.
            decode = partial(tokenizer.tokenizer.decode_batch, skip_special_tokens=False)
            return await scheduled.tokenize(await scheduled.apart(decode, given), prompt, waiting, limit)
        return Tokenized.at_once(tokenizer.surround(given, limit))

    def _check_rows(self, rows: TokenRows, limit: int, *, truncate: bool, param: str) -> None:
        """Check that rows, whose ends were cut to a limit, may be computed.

        Raises:
            RequestError: a text is too long and may not be cut, or all together have too many tokens.
        """
        if rows.truncation.texts and not truncate:
            longest = limit + rows.truncation.longest
            raise wrong(
                f"{param} has a text of {longest:,} tokens, and {limit:,} fit; shorten it, or allow truncation",
                param,
                "too_long",
            )
        tokens = sum(map(len, rows.ids))
        if tokens > self.settings.max_request_tokens:
            raise wrong(
                f"{param} has {tokens:,} tokens; send {self.settings.max_request_tokens:,} at most in one request",
                param,
                "too_many_tokens",
            )

    def _note(self, answered: Answered, call: Call) -> None:
        call.answered.append(answered)
        self.metrics.truncated(answered.truncation.texts)


def split_alias(name: str) -> tuple[str, Role | None]:
    """Return a model's name without `:query` or `:document`, and which of them it had."""
    base, _, suffix = name.rpartition(":")
    if base and suffix == "query":
        return base, "query"
    if base and suffix == "document":
        return base, "document"
    return name, None


def check_limit(asked: int | None, scheduled: ScheduledModel, param: str) -> int:
    """Return how many tokens a text may have: as many as a request asks for, and the model's limit at most.

    Raises:
        RequestError: they leave no room for a text.
    """
    tokenizer = scheduled.pipeline.tokenizer
    least = len(tokenizer.before) + len(tokenizer.after) + 1
    if asked is not None and asked < least:
        raise wrong(f"{asked} tokens leave no room for a text; use {least} or more", param)
    return tokenizer.max_tokens if asked is None else min(asked, tokenizer.max_tokens)


def without_end(row: Sequence[int], end: Sequence[int]) -> Sequence[int]:
    """Return token ids without the model's end tokens, which many callers' tokenizers append by themselves."""
    return row[: -len(end)] if end and list(row[-len(end) :]) == list(end) else row


def cut_documents(pairs: Sequence[tuple[str, str]], scheduled: ScheduledModel, most: int) -> list[tuple[str, str]]:
    """Return pairs whose documents have so many tokens at most."""
    if most < 1:
        raise wrong(f"max_tokens_per_doc {most} leaves nothing of a document; use 1 or more", "max_tokens_per_doc")
    tokenizer = scheduled.pipeline.tokenizer
    return [(query, tokenizer.cut(check_text(document, "a document"), most)) for query, document in pairs]


def to_integers(vectors: Vectors, dtype: Dtype) -> Vectors:
    """Return int8 or uint8 vectors, each scaled by its own largest value; cosines stay, dot products do not.

    There is no calibration in a request. The largest value becomes 127, and uint8 is 128 more.
    """
    largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    levels: Vectors = np.rint(vectors / largest * SIGNED_LEVELS)
    return levels.astype(np.int8) if dtype == "int8" else (levels + 128).astype(np.uint8)
