"""The OpenAPI document has every route and no other, its references lead somewhere, and real bodies fit its schemas."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from starlette.routing import Route

from quoit.server.app import ENDPOINTS, State, make_app
from quoit.server.endpoint import decode
from quoit.server.metrics import Metrics
from quoit.server.openapi import PATH, describe
from quoit.server.settings import Settings
from server.running import ask_app

PAGES = {("GET", "/")}
"""Routes for browsers, which the document leaves out."""
BODIES: dict[str, list[dict[str, Any]]] = {
    "/v1/embeddings": [
        {"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 64},
        {"input": "a", "input_type": "query", "user": "somebody"},
        {"input": [[1, 2], [3]]},
    ],
    "/embed": [{"inputs": ["a"], "truncate": None, "truncation_direction": "Right", "prompt_name": "query"}],
    "/similarity": [{"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {"truncate": True}}],
    "/predict": [{"inputs": ["a", "b"]}, {"inputs": [["a", "b"], ["c", "d"]]}],
    "/tokenize": [{"inputs": "a", "add_special_tokens": False}],
    "/decode": [{"ids": [1, 2]}, {"ids": [[1], [2]]}],
    "/rerank": [
        {"query": "a", "documents": ["b", {"text": "c"}], "top_n": 1, "return_documents": True},
        {"query": "a", "texts": ["b"], "return_text": True},
    ],
    "/score": [{"text_1": "a", "text_2": ["b", "c"]}],
    "/v2/embed": [
        {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float", "int8"]},
        {"inputs": [{"content": [{"type": "text", "text": "a"}]}]},
    ],
    "/api/embed": [{"model": "m", "input": ["a"], "options": {"use_mmap": True}, "keep_alive": -1}],
    "/api/embeddings": [{"model": "m", "prompt": "a"}],
    "/api/show": [{"model": "m"}],
    "/": [{"inputs": "a"}, {"query": "a", "texts": ["b"]}],
    "/vertex": [{"instances": [{"inputs": "a"}]}],
}

Tree = Any


@pytest.fixture(scope="module")
def document() -> Tree:
    return describe(ENDPOINTS)


def operations(document: Tree) -> set[tuple[str, str]]:
    return {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "parameters"
    }


def references(tree: Tree) -> Iterator[str]:
    """Every `$ref` below a place of the document."""
    if isinstance(tree, dict):
        if isinstance(tree.get("$ref"), str):
            yield tree["$ref"]
        for value in tree.values():
            yield from references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from references(value)


def follow(document: Tree, reference: str) -> Tree:
    assert reference.startswith("#/")
    found = document
    for name in reference[2:].split("/"):
        found = found[name]
    return found


def fits(document: Tree, schema: Tree, value: Any) -> bool:
    """Whether a value has the types that a schema names: as much of JSON Schema as the document uses."""
    if "$ref" in schema:
        return fits(document, follow(document, schema["$ref"]), value)
    if "anyOf" in schema:
        return any(fits(document, each, value) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            return (
                isinstance(value, dict)
                and value.keys() >= set(schema.get("required", []))
                and all(fits(document, known[name], each) for name, each in value.items() if name in known)
            )
        case "array":
            return isinstance(value, list) and all(fits(document, schema["items"], each) for each in value)
        case None:
            return True
        case names:
            kinds = {"string": str, "integer": int, "boolean": bool, "null": type(None), "number": float}
            return isinstance(value, tuple(kinds[name] for name in ([names] if isinstance(names, str) else names)))


def test_every_route_is_described_and_nothing_else(document: Tree) -> None:
    app = make_app(State(), Settings(), Metrics())
    routes = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in app._app.routes
        if isinstance(route, Route)
        for method in set(route.methods or ()) - {"HEAD"}
        if not route.path.startswith("/static/")
    }
    assert routes - PAGES == operations(document)


def test_every_reference_leads_to_something(document: Tree) -> None:
    found = set(references(document))
    assert len(found) > 15
    assert all(isinstance(follow(document, reference), dict) for reference in found)
    assert all(re.fullmatch(r"[\w.-]+", name) for part in document["components"].values() for name in part)


def test_the_document_has_what_openapi_asks_for(document: Tree) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"].keys() >= {"title", "version"}
    ids = []
    for path, item in document["paths"].items():
        named = {each["name"] for each in item.get("parameters", [])}
        assert named == set(re.findall(r"{(\w+)}", path))
        for method, operation in item.items():
            if method != "parameters":
                ids.append(operation["operationId"])
                assert operation["summary"].endswith(".")
                assert operation["responses"].keys() <= {"200", "503", "4XX", "5XX"}
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", BODIES)
def test_real_bodies_fit_their_schemas(document: Tree, path: str) -> None:
    (endpoint,) = (endpoint for endpoint in ENDPOINTS if path in endpoint.paths)
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for body in BODIES[path]:
        assert fits(document, schema, body)
        decode(msgspec.json.encode(body), endpoint.body)
    assert not fits(document, schema, ["a"])
    if path not in ("/api/embed", "/api/embeddings", "/api/show", "/score", "/v2/embed"):
        assert not fits(document, schema, {})


def test_every_endpoint_has_a_body_here() -> None:
    assert all(
        any(path in BODIES for path in e.paths) or e.paths in (("/v1/embed",), ("/v2/rerank",)) for e in ENDPOINTS
    )


def test_errors_have_the_schema_of_their_dialect(document: Tree) -> None:
    app = make_app(State(), Settings(), Metrics())
    for path, item in document["paths"].items():
        if "post" in item:
            status, _, answer = ask_app(app, "POST", path.replace("{model}", "m"), {"inputs": 1})
            assert status == 503
            schema = follow(document, item["post"]["responses"]["5XX"]["$ref"])["content"]["application/json"]["schema"]
            assert fits(document, schema, answer), path


def test_the_server_tells_it(document: Tree) -> None:
    app = make_app(State(), Settings(), Metrics())
    for _ in range(2):
        assert ask_app(app, "GET", PATH)[::2] == (200, document)
