"""Decide whether a request is let in, before any work: host, key, media type, size and time of its body.

ASGI middleware. It also gives each request its id, and writes its log line and its metrics when it is answered.
"""

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import uuid4

import msgspec

from quoit.server.body import Body, check_form
from quoit.server.call import Call, Dialect, timeout
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
MAX_HEADER_BYTES = 64 << 10
"""Maximum size of a request's header; h11 alone lets one pass that arrives in one piece."""
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
UNREADY_CALL = "unknown"


class Life(Protocol):
    """What the guard asks of the server's state."""

    draining: bool
    refusing: bool

    def check_load(self, call: Call) -> None:
        """Refuse a request that could not begin to run in time."""


class Guard:
    """The middleware around a server's routes."""

    def __init__(
        self,
        app: Any,
        settings: Settings,
        metrics: Metrics,
        dialect_of: Callable[[str], Dialect],
        life: Life,
        early: frozenset[str],
    ) -> None:
        """Wrap an application.

        Args:
            app: the ASGI application.
            settings: whom it lets in, and what it bears.
            metrics: the metrics to count in.
            dialect_of: function that returns the dialect of a path's errors.
            life: whether the server is ending, and how much it has to do.
            early: paths whose requests may be refused before their bodies are read.
        """
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._dialect_of = dialect_of
        self._life = life
        self._early = early
        self._keys = {name: hashlib.sha256(key.encode()).digest() for name, key in settings.keys.items()}
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts)
        self._running = 0

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        key = self._key_name(headers)
        call = self._call(scope, headers, key)
        scope.setdefault("state", {})["call"] = call
        body = Body(receive, headers, self._settings)
        sender = _Sender(send, call, body, self._life)
        self._running += 1
        try:
            self._check(scope, call, body, known=key is not None)
            await self._app(scope, body.receive, sender)
        except RequestError as refusal:
            self._metrics.rejected(refusal.code or str(refusal.status))
            await _refuse(refusal, call, sender)
        finally:
            self._running -= 1
            seconds = time.monotonic() - call.arrived
            self._metrics.request(call, sender.status, seconds)
            log_request(call, scope["method"], sender.status, seconds)

    def _call(self, scope: Scope, headers: Mapping[str, str], key: str | None) -> Call:
        given = headers.get("x-request-id", "")
        client = scope.get("client") or ("", 0)
        owner = key or f"{client[0]}:{client[1]}"
        return Call(
            id=given if REQUEST_ID.fullmatch(given) else uuid4().hex,
            route=UNREADY_CALL,
            headers=headers,
            owner=owner,
            sharing=owner if self._settings.isolate else "",
            timeout=timeout(headers),
            max_wait=self._settings.max_wait,
            dialect=self._dialect_of(scope["path"]),
        )

    def _check(self, scope: Scope, call: Call, body: Body, *, known: bool) -> None:
        """Refuse what may not come in; `known` says that the request has one of the keys.

        Raises:
            RequestError: the request may not come in.
        """
        path, method, headers = scope["path"], scope["method"], call.headers
        if size_of(scope) > MAX_HEADER_BYTES:
            raise RequestError(
                431, f"the header has more than {MAX_HEADER_BYTES:,} bytes; send less", "header_too_large"
            )
        self._check_host(headers.get("host", ""))
        if path in OPEN_PATHS or (
            method in ("GET", "HEAD") and (path == PAGE_PATHS[0] or path.startswith(PAGE_PATHS[1]))
        ):
            return
        if self._keys and not known:
            raise RequestError(
                401,
                "this server asks for an API key; send it as Authorization: Bearer KEY",
                "invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        if self._life.refusing:
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
            body.check_length()
            if path in self._early:
                self._life.check_load(call)

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


def size_of(scope: Scope) -> int:
    """Return the number of bytes of a request's header, about."""
    lines = sum(len(name) + len(value) for name, value in scope["headers"])
    return lines + len(scope["raw_path"]) + len(scope["query_string"])


class _Sender:
    """Sends an answer with the headers that all have. Its end comes when the body was read, or most of it.

    Attributes:
        status: status of the answer; 0 before it began.
    """

    def __init__(self, send: Any, call: Call, body: Body, life: Life) -> None:
        self.status = 0
        self._send, self._call, self._body, self._life = send, call, body, life

    async def __call__(self, message: Message) -> None:
        """Send a message of ASGI."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message.setdefault("headers", [])
            headers.append((b"x-request-id", self._call.id.encode("latin-1")))
            if self._life.draining and not any(name == b"connection" for name, _ in headers):
                headers.append((b"connection", b"close"))
        elif not (message.get("more_body", False) or self._body.complete):
            await self._send(message | {"more_body": True})
            await self._body.discard()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)


async def _refuse(refusal: RequestError, call: Call, send: Any) -> None:
    content = msgspec.json.encode(call.dialect.error(refusal, call))
    found = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
    headers = [(name.encode(), value.encode()) for name, value in found.items()]
    await send({"type": "http.response.start", "status": call.dialect.status(refusal), "headers": headers})
    await send({"type": "http.response.body", "body": content})
