"""Serve the page at `/` and its files; programs that probe `/` get a line of text."""

from functools import partial
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

INDEX = "index.html"
HTML, CSS, SCRIPT, SVG = "text/html", "text/css", "text/javascript", "image/svg+xml"
STATIC_FILES = {
    "api.js": SCRIPT,
    "chunks.js": SCRIPT,
    "compare.js": SCRIPT,
    "dom.js": SCRIPT,
    "examples.js": SCRIPT,
    "logo.svg": SVG,
    "main.js": SCRIPT,
    "prometheus.js": SCRIPT,
    "search.js": SCRIPT,
    "server.js": SCRIPT,
    "snippets.js": SCRIPT,
    "style.css": CSS,
    "tokens.js": SCRIPT,
    "vectors.js": SCRIPT,
}
"""Media types of the files at `/static/`, by name."""
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
RUNNING = "quoit is running"
"""Answer of `/` to callers that ask for no HTML, such as the probes of other servers' clients."""


def routes(*, ui: bool) -> list[Route]:
    """Return the routes of the page; without it, `/` still tells that the server runs.

    Args:
        ui: serve the page.
    """
    if not ui:
        return [Route("/", _running)]
    static = {name: _read(name) for name in STATIC_FILES}
    return [
        Route("/", partial(_index, _read(INDEX))),
        Route("/static/{name}", partial(_static, static)),
    ]


def _read(name: str) -> bytes:
    return (files("quoit.server") / "page" / name).read_bytes()


async def _running(request: Request) -> Response:
    """Answer a probe."""
    request.state.call.route = "/"
    return PlainTextResponse(RUNNING, headers={"vary": "accept"})


async def _index(content: bytes, request: Request) -> Response:
    """Answer with the page if the caller shows HTML."""
    if HTML not in request.headers.get("accept", ""):
        return await _running(request)
    request.state.call.route = "/"
    return Response(content, headers={**HEADERS, "vary": "accept"}, media_type=HTML)


async def _static(static: dict[str, bytes], request: Request) -> Response:
    """Answer with a file of the page.

    Raises:
        HTTPException: there is no file of this name.
    """
    request.state.call.route = "/static/{name}"
    name = request.path_params["name"]
    if name not in static:
        raise HTTPException(404)
    return Response(static[name], headers=HEADERS, media_type=STATIC_FILES[name])
