"""Decide whether a request is let in, before any work: host, key, media type, size and time of its body.

ASGI middleware. It also gives each request its id, and writes its log line and its metrics when it is answered.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import msgspec

from quoit.server.call import Call, Dialect, patience
from quoit.server.log import log_request
from quoit.server.metrics import Metrics
from quoit.server.refusals import RequestError, retry_after
from quoit.server.settings import LOOPBACK, Settings

Scope = dict[str, Any]
Message = dict[str, Any]
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
OPEN_PATHS = frozenset({"/health", "/live", "/ready", "/ping"})
"""Paths that need no key: balancers ask them."""
PAGE_PATHS = ("/", "/static/")
"""Paths of the page, which asks for the key by itself: the first one exactly, the second with what follows."""
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
UNREADY_CALL = "unknown"


class Guard:
    """The middleware around a server's routes."""

    def __init__(
        self,
        app: Any,
        settings: Settings,
        metrics: Metrics,
        dialect_of: Callable[[str], Dialect],
        draining: Callable[[], bool],
    ) -> None:
        """Wrap an application.

        Args:
            app: the ASGI application.
            settings: whom it lets in, and what it bears.
            metrics: the metrics to count in.
            dialect_of: function that returns the dialect of a path's errors.
            draining: function that returns whether the server is ending.
        """
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._dialect_of = dialect_of
        self._draining = draining
        self._keys = {name: hashlib.sha256(key.encode()).digest() for name, key in settings.keys.items()}
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts)
        self._running = 0

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        call = self._call(scope, headers)
        scope.setdefault("state", {})["call"] = call
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", call.id.encode("latin-1")))
            await send(message)

        self._running += 1
        try:
            self._check(scope, headers)
            await self._app(scope, self._limited(receive, headers), sending)
        except RequestError as refusal:
            self._metrics.rejected(refusal.code or str(refusal.status))
            await _refuse(refusal, call, sending)
        finally:
            self._running -= 1
            seconds = time.monotonic() - started
            self._metrics.request(call, status, seconds)
            log_request(call, scope["method"], status, seconds)

    def _call(self, scope: Scope, headers: Mapping[str, str]) -> Call:
        given = headers.get("x-request-id", "")
        client = scope.get("client") or ("", 0)
        owner = self._key_name(headers) or f"{client[0]}:{client[1]}"
        return Call(
            id=given if REQUEST_ID.fullmatch(given) else uuid4().hex,
            route=UNREADY_CALL,
            headers=headers,
            owner=owner,
            sharing=owner if self._settings.isolate else "",
            patience=patience(headers, self._settings.max_wait),
            dialect=self._dialect_of(scope["path"]),
        )

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Refuse what may not come in.

        Raises:
            RequestError: the request may not come in.
        """
        path, method = scope["path"], scope["method"]
        self._check_host(headers.get("host", ""))
        if path in OPEN_PATHS or (method == "GET" and (path == PAGE_PATHS[0] or path.startswith(PAGE_PATHS[1]))):
            return
        if self._keys and self._key_name(headers) is None:
            raise RequestError(
                401,
                "this server asks for an API key; send it as Authorization: Bearer KEY",
                "invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        if self._draining():
            raise RequestError(
                503,
                "the server is ending; try another one",
                "unavailable",
                headers={"connection": "close", **retry_after(1)},
            )
        if self._running > self._settings.max_connections:
            raise RequestError(
                503, "too many requests at a time; try again later", "overloaded", headers=retry_after(1)
            )
        if method in BODY_METHODS:
            check_form(headers)
            self._check_length(headers)

    def _check_host(self, given: str) -> None:
        """Refuse a page of another site that reaches this machine by a name of its own (DNS rebinding)."""
        if "*" in self._hosts or not (self._settings.is_local or self._hosts):
            return
        name = given.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if name in LOOPBACK or name in self._hosts or (self._settings.uds is not None and not self._hosts):
            return
        try:
            loopback = ipaddress.ip_address(name).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise RequestError(
                403, f"host {given[:80]!r} is not this server's; start it with --allowed-host NAME", "host"
            )

    def _key_name(self, headers: Mapping[str, str]) -> str | None:
        """Return the name of the request's key; all keys are compared, in constant time."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        given = value.strip() if scheme.lower() == "bearer" else headers.get("api-key", "")
        digest = hashlib.sha256(given.encode("latin-1")).digest()
        found = [name for name, key in self._keys.items() if hmac.compare_digest(key, digest)]
        return found[0] if found else None

    def _check_length(self, headers: Mapping[str, str]) -> None:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._settings.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> RequestError:
        return RequestError(
            413,
            f"the body has more than {self._settings.max_body_bytes:,} bytes; send fewer texts in one request",
            "body_too_large",
            headers={"connection": "close"},
        )

    def _limited(self, receive: Any, headers: Mapping[str, str]) -> Any:
        """Return a `receive` that reads a body of limited size in limited time."""
        size, complete = 0, "content-length" not in headers and "transfer-encoding" not in headers
        ends = time.monotonic() + self._settings.body_seconds

        async def limited() -> Message:
            nonlocal size, complete
            if complete:
                message: Message = await receive()
                return message
            try:
                async with asyncio.timeout(max(ends - time.monotonic(), 0.001)):
                    message = await receive()
            except TimeoutError as error:
                raise RequestError(
                    408,
                    f"the body did not arrive within {self._settings.body_seconds:g} s; send it faster",
                    "body_timeout",
                    headers={"connection": "close"},
                ) from error
            if message["type"] != "http.request":
                complete = True
                return message
            size += len(message.get("body", b""))
            if size > self._settings.max_body_bytes:
                raise self._too_large()
            complete = not message.get("more_body", False)
            return message

        return limited


def check_form(headers: Mapping[str, str]) -> None:
    """Refuse bodies that are not plain JSON: a form of another site could send those without the browser asking.

    Raises:
        RequestError: the media type is another one, or the body is compressed.
    """
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise RequestError(415, f"content-type {media[:80]!r} is not JSON; use application/json", "media_type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "compressed bodies are refused; send the JSON as it is", "content_encoding")


async def _refuse(refusal: RequestError, call: Call, send: Any) -> None:
    content = msgspec.json.encode(call.dialect.error(refusal, call))
    found = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
    headers = [(name.encode(), value.encode()) for name, value in found.items()]
    await send({"type": "http.response.start", "status": call.dialect.status(refusal), "headers": headers})
    await send({"type": "http.response.body", "body": content})
