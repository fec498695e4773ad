"""Turn a request's body into a record, and whatever happens into an answer of the right dialect."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from quoit.engine.pooling import Vectors
from quoit.server.call import Call, Dialect
from quoit.server.refusals import RequestError, refusal_of, wrong
from quoit.server.service import INLINE_VALUES, Service

JSON = "application/json"
CLIENT_CLOSED = 499
"""Status in the log of a request whose caller went away; nobody sees it."""
AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
SURROGATE = "truncated"

logger = logging.getLogger("quoit.server")


@dataclass(frozen=True)
class Endpoint:
    """What answers the requests to some paths.

    Attributes:
        paths: the paths; the first is the name in metrics and log.
        dialect: the dialect of its errors.
        body: type of the body, a msgspec struct.
        handle: function that answers a body; it returns what becomes JSON.
        words: what it does, for the OpenAPI document.
        by_body: whether the body decides the dialect of its errors, so that nothing is refused before it is read.
    """

    paths: tuple[str, ...]
    dialect: Dialect
    body: type[Any]
    handle: Callable[[Service, Any, Call], Awaitable[Any]]
    words: str
    by_body: bool = False

    async def answer(self, service: Service, content: bytes, call: Call) -> Any:
        """Return what becomes the JSON of an answer.

        Raises:
            RequestError: the body is not understood, or a value is out of bounds.
            QuoitError: an error of the engine.
        """
        call.dialect = self.dialect
        return await self.handle(service, decode(content, self.body), call)


def decode(content: bytes, kind: type[Any]) -> Any:
    """Return a body as a struct; numbers and booleans may be written as strings, as some clients do.

    Raises:
        RequestError: the body is not JSON, or a field has another type.
    """
    try:
        return msgspec.json.decode(content, type=kind, strict=False)
    except msgspec.ValidationError as error:
        found = AT.search(str(error))
        param = None if found is None else found["path"].partition("[")[0] or None
        raise wrong(f"the body is not understood: {error}", param, "validation") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        if SURROGATE in what:
            what = f"{what}, or has a lone surrogate"
        raise wrong(f"the body is no JSON: {what}", None, "malformed") from error


async def respond(endpoint: Endpoint, request: Request) -> Response:
    """Answer a request. If its caller goes away, its work is given up."""
    call: Call = request.state.call
    service: Service | None = request.app.state.server.service
    call.dialect = endpoint.dialect
    try:
        if service is None:
            raise request.app.state.server.absence()
        content = await request.body()
        async with giving_up(request):
            answer = await endpoint.answer(service, content, call)
        return reply(await encoded(answer), call)
    except ClientGoneError:
        return Response(status_code=CLIENT_CLOSED)
    except Exception as error:
        return refuse(error, call)


class ClientGoneError(Exception):
    """The caller went away before the answer."""


@asynccontextmanager
async def giving_up(request: Request) -> AsyncIterator[None]:
    """Cancel the work inside if the caller goes away; the body must have been read.

    Raises:
        ClientGoneError: the caller went away.
    """
    worker = asyncio.current_task()
    assert worker is not None
    gone = asyncio.ensure_future(disconnected(request))
    gone.add_done_callback(lambda watch: watch.cancelled() or worker.cancel())
    try:
        yield
    except asyncio.CancelledError as error:
        if gone.done() and not gone.cancelled():
            worker.uncancel()
            raise ClientGoneError from error
        raise
    finally:
        gone.cancel()


async def disconnected(request: Request) -> None:
    """Return when the caller has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def encoded(answer: Any) -> bytes:
    """Return an answer's JSON; large ones are made in a thread."""
    if isinstance(answer, bytes):
        return answer
    if not isinstance(answer, Large):
        return msgspec.json.encode(answer)
    return await asyncio.to_thread(lambda: msgspec.json.encode(answer.make()))


@dataclass(frozen=True)
class Large:
    """An answer whose JSON takes long to make; `make` returns what becomes JSON."""

    make: Callable[[], Any]


def made(vectors: Vectors, make: Callable[[], Any]) -> Any:
    """Return what `make` makes of vectors, or a `Large` where there are many values."""
    return Large(make) if vectors.size > INLINE_VALUES else make()


def reply(content: bytes, call: Call, status: int = 200) -> Response:
    """Return a response with the headers of its call, and its times as Text Embeddings Inference names them."""
    if call.answered:
        call.reply_headers |= {
            "x-compute-tokens": str(sum(each.tokens for each in call.answered)),
            "x-total-time": milliseconds(time.monotonic() - call.arrived),
            "x-tokenization-time": milliseconds(sum(each.tokenize_seconds for each in call.answered)),
            "x-queue-time": milliseconds(max(each.queue_seconds for each in call.answered)),
            "x-inference-time": milliseconds(sum(each.compute_seconds for each in call.answered)),
        }
    return Response(content, status, headers=call.reply_headers, media_type=JSON)


def milliseconds(seconds: float) -> str:
    """Return seconds as a whole number of milliseconds."""
    return str(round(seconds * 1000))


def refuse(error: Exception, call: Call) -> Response:
    """Return the response to a request that failed, in its dialect."""
    refusal = refusal_of(error)
    if not isinstance(error, RequestError) and refusal.status >= 500 and refusal.code == "internal_error":
        logger.error("request %s failed", call.id, exc_info=error)
    call.reply_headers |= refusal.headers
    content = msgspec.json.encode(call.dialect.error(refusal, call))
    return reply(content, call, call.dialect.status(refusal))
