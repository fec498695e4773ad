"""Put routes, guard and state together as an ASGI application. It answers before models are loaded, with 503."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from quoit.server import openapi, page
from quoit.server.call import Call, Dialect
from quoit.server.dialects import cohere, ollama, openai, ranking, shapes, tei
from quoit.server.endpoint import JSON, Endpoint, refuse, reply, respond
from quoit.server.guard import Guard
from quoit.server.metrics import CONTENT_TYPE, Metrics
from quoit.server.refusals import RequestError, retry_after
from quoit.server.service import Service
from quoit.server.settings import Settings

ENDPOINTS: tuple[Endpoint, ...] = (
    openai.EMBEDDINGS,
    *tei.ENDPOINTS,
    *ranking.ENDPOINTS,
    *cohere.ENDPOINTS,
    *ollama.ENDPOINTS,
    *shapes.ENDPOINTS,
)
LOADING_SECONDS = 2.0
"""What a caller is told to wait while models load."""
WHAT_IS_HERE = (
    "this server embeds texts and ranks documents: /v1/embeddings, /rerank, /embed; /openapi.json has all paths"
)


@dataclass
class State:
    """The server's state.

    Attributes:
        service: what answers; None until models are loaded.
        draining: True from the signal to end on; balancers are told so.
        refusing: True when new requests are refused, since the server ends.
    """

    service: Service | None = None
    draining: bool = False
    refusing: bool = False

    @property
    def ready(self) -> bool:
        """Return whether requests are answered."""
        return self.service is not None and not self.draining

    def check_load(self, call: Call) -> None:
        """Refuse a request that could not begin to run in time, whatever its body says.

        Raises:
            RequestError: it could not.
        """
        if self.service is not None:
            self.service.check_load(call)

    def absence(self) -> RequestError:
        """Return the refusal while models are loaded."""
        return RequestError(
            503, "the model is still loading; try again soon", "loading", headers=retry_after(LOADING_SECONDS)
        )


def make_app(state: State, settings: Settings, metrics: Metrics) -> Any:
    """Return the ASGI application."""
    routes = [
        Route(path, partial(_answer, endpoint, path), methods=["POST"])
        for endpoint in ENDPOINTS
        for path in endpoint.paths
    ]
    routes += [
        Route(path, partial(_tell, path, tell, dialect))
        for path, (tell, dialect) in {
            "/v1/models": (_models, openai.OPENAI),
            "/v1/models/{name:path}": (_model, openai.OPENAI),
            "/info": (_info, tei.TEI),
            "/api/tags": (_tags, ollama.OLLAMA),
            "/api/version": (_version, ollama.OLLAMA),
        }.items()
    ]
    routes += [Route(path, partial(_health, path)) for path in ("/health", "/ready", "/ping")]
    routes += [Route("/live", _live), Route("/metrics", _metrics), openapi.route(ENDPOINTS)]
    routes += page.routes(ui=settings.ui)
    app = Starlette(routes=routes, exception_handlers={404: _unknown, 405: _unknown})
    app.state.server, app.state.metrics = state, metrics
    dialects = {path: endpoint.dialect for endpoint in ENDPOINTS for path in endpoint.paths}
    early = frozenset(path for endpoint in ENDPOINTS for path in endpoint.paths if not endpoint.by_body)
    guarded: Any = Guard(app, settings, metrics, partial(_dialect_of, dialects), state, early)
    if settings.cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # those that the page asks for, by name; OpenAI's client in a browser has many
            expose_headers=["x-request-id", "retry-after", "retry-after-ms"],
        )
    return guarded


def _dialect_of(dialects: dict[str, Dialect], path: str) -> Dialect:
    return ollama.OLLAMA if path.startswith("/api/") else dialects.get(path, openai.OPENAI)


async def _answer(endpoint: Endpoint, path: str, request: Request) -> Response:
    call: Call = request.state.call
    call.route = path
    call.path_model = request.path_params.get("model")
    return await respond(endpoint, request)


Tell = Callable[[Request, Service], Any]


async def _tell(path: str, tell: Tell, dialect: Dialect, request: Request) -> Response:
    """Answer a request that has no body."""
    call: Call = request.state.call
    call.route, call.dialect = path, dialect
    try:
        service: Service | None = request.app.state.server.service
        if service is None:
            raise request.app.state.server.absence()
        return reply(msgspec.json.encode(tell(request, service)), call)
    except Exception as error:
        return refuse(error, call)


def _models(_: Request, service: Service) -> Any:
    return openai.list_models(service)


def _model(request: Request, service: Service) -> Any:
    return openai.find_model(service, request.path_params["name"])


def _info(_: Request, service: Service) -> Any:
    return tei.info(service)


def _tags(_: Request, service: Service) -> Any:
    return ollama.list_tags(service)


def _version(_: Request, __: Service) -> Any:
    from quoit import __version__

    return {"version": __version__}


async def _metrics(request: Request) -> Response:
    """Answer with the metrics, also while models load."""
    request.state.call.route = "/metrics"
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)


async def _health(path: str, request: Request) -> Response:
    """Answer whether the server takes requests; the engine is not asked."""
    request.state.call.route = path
    state: State = request.app.state.server
    if state.ready:
        return Response(b"", media_type=JSON)
    words = "draining" if state.draining else "loading"
    content = {"error": words, "error_type": "Unhealthy"}
    return Response(msgspec.json.encode(content), 503, headers=retry_after(LOADING_SECONDS), media_type=JSON)


async def _live(request: Request) -> Response:
    """Answer that the event loop is alive."""
    request.state.call.route = "/live"
    return PlainTextResponse("")


async def _unknown(request: Request, error: Any) -> Response:
    """Answer a path or a method that is not here."""
    call: Call = request.state.call
    if error.status_code == 405:
        return refuse(RequestError(405, f"{request.method} is not possible here; use POST or GET", "method"), call)
    return refuse(RequestError(404, f"there is no {request.url.path[:80]!r}; {WHAT_IS_HERE}", "not_found"), call)
