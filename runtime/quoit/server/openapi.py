"""Describe the server's routes as an OpenAPI 3.1 document, made from what answers them."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from quoit.server.call import Call, Dialect
from quoit.server.dialects import ollama, openai, ranking, shapes, tei
from quoit.server.endpoint import JSON, Endpoint
from quoit.server.refusals import RequestError

PATH = "/openapi.json"
OPEN_API = "3.1.0"
SCHEMAS, RESPONSES = "#/components/schemas/", "#/components/responses/"
MODULES = "quoit.server.dialects."
"""Beginning of the names that msgspec gives to structs of one name in several modules."""
SHAPES = (tei.EmbedBody, tei.SimilarityBody, tei.PredictBody, ranking.RankBody)
"""The bodies that a path of any shape takes, and a prediction's instances."""
KEYS = {"bearer": {"type": "http", "scheme": "bearer"}, "key": {"type": "apiKey", "in": "header", "name": "api-key"}}
QUESTIONS: dict[str, tuple[str, Dialect]] = {
    "/v1/models": ("The names of the models.", openai.OPENAI),
    "/v1/models/{name}": ("One of the models; its name may have slashes.", openai.OPENAI),
    "/info": ("The model, its limits and the server's version, as Text Embeddings Inference tells them.", tei.TEI),
    "/api/tags": ("The models, as Ollama lists them.", ollama.OLLAMA),
    "/api/version": ("The server's version, as Ollama tells it.", ollama.OLLAMA),
    PATH: ("This document.", openai.OPENAI),
}
"""The routes that answer `GET` with JSON, what they tell, and the dialect of their errors."""
PROBES = {
    "/health": "Whether requests are answered: 200, or 503 while models load and while the server ends.",
    "/ready": "The same as /health.",
    "/ping": "The same as /health, for SageMaker.",
    "/live": "Whether the process is alive.",
}
"""The routes that need no key."""
METRICS = "/metrics"

Tree = dict[str, Any]


def route(endpoints: Sequence[Endpoint]) -> Route:
    """Return the route of the document; it is made when it is first asked for."""

    @cache
    def content() -> bytes:
        return msgspec.json.encode(describe(endpoints))

    async def answer(request: Request) -> Response:
        call: Call = request.state.call
        call.route = PATH
        return Response(content(), media_type=JSON)

    return Route(PATH, answer)


def describe(endpoints: Sequence[Endpoint]) -> Tree:
    """Return the document of all routes."""
    from quoit import __version__

    references, schemas = schemas_of(endpoints)
    dialects = {endpoint.dialect.name: endpoint.dialect for endpoint in endpoints}
    paths: dict[str, Tree] = {}
    for endpoint in endpoints:
        for path in endpoint.paths:
            paths[path] = _with_parameters(path, {"post": _post(endpoint, path, references[endpoint.body])})
    for path, (words, dialect) in QUESTIONS.items():
        paths[path] = _with_parameters(path, {"get": _operation(path, words, dialect)})
    for path, words in PROBES.items():
        answers = {"200": {"description": "yes"}, "503": {"description": "not now"}}
        paths[path] = {"get": {"operationId": f"get {path}", "summary": words, "security": [], "responses": answers}}
    paths[METRICS] = {
        "get": _operation(METRICS, "Metrics in the text form of Prometheus.", openai.OPENAI, "text/plain")
    }
    return {
        "openapi": OPEN_API,
        "info": {"title": "quoit", "version": __version__, "summary": "Embeddings and rankings of texts."},
        "security": [{}, *({name: []} for name in KEYS)],
        "paths": paths,
        "components": {
            "schemas": schemas | {f"{name}.Error": error_schema(dialect) for name, dialect in dialects.items()},
            "responses": {name: _error(name) for name in dialects},
            "securitySchemes": KEYS,
        },
    }


def schemas_of(endpoints: Sequence[Endpoint]) -> tuple[dict[type, Tree], dict[str, Tree]]:
    """Return the schema of each type of body, and the schemas that they refer to by name."""
    kinds: list[type] = list(dict.fromkeys([*(e.body for e in endpoints if e.body is not shapes.AnyBody), *SHAPES]))
    found = msgspec.json.schema_components(kinds, ref_template=SCHEMAS + "{name}")
    references, schemas = msgspec.json.decode(msgspec.json.encode(found).replace(MODULES.encode(), b""))
    by_kind: dict[type, Tree] = dict(zip(kinds, references, strict=True))
    any_shape = {"anyOf": [by_kind[kind] for kind in SHAPES]}
    if shapes.VertexBody in by_kind:
        schemas[shapes.VertexBody.__name__]["properties"]["instances"]["items"] = any_shape
    return by_kind | {shapes.AnyBody: any_shape}, schemas


def error_schema(dialect: Dialect) -> Tree:
    """Return the schema of a dialect's errors: that of an example, whose empty fields may have words."""
    call = Call("id", "route", {}, "owner", "", timeout=None, max_wait=1.0, dialect=dialect)
    return _like(dialect.error(RequestError(400, "what is wrong"), call))


def _like(example: Any) -> Tree:
    if isinstance(example, dict):
        fields = {name: _like(value) for name, value in example.items()}
        return {"type": "object", "properties": fields, "required": list(fields)}
    return {"type": ["string", "null"] if example is None else "string"}


def _operation(path: str, words: str, dialect: Dialect, media: str = JSON, method: str = "get") -> Tree:
    """Return what OpenAPI calls an operation: a path and a method."""
    failed = {"$ref": RESPONSES + dialect.name}
    answers = {"200": {"description": "the answer", "content": {media: {}}}, "4XX": failed, "5XX": failed}
    return {"operationId": f"{method} {path}", "summary": words, "responses": answers}


def _post(endpoint: Endpoint, path: str, schema: Tree) -> Tree:
    body = {"required": True, "content": {JSON: {"schema": schema}}}
    return _operation(path, endpoint.words, endpoint.dialect, method="post") | {"requestBody": body}


def _with_parameters(path: str, item: Tree) -> Tree:
    """Return a path's item with the parameters that its braces name."""
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return item | ({"parameters": parameters} if parameters else {})


def _error(name: str) -> Tree:
    content = {JSON: {"schema": {"$ref": f"{SCHEMAS}{name}.Error"}}}
    return {"description": "the request was refused, or failed", "content": content}
