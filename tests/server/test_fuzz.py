"""Whatever a body holds, the answer is JSON in the shape of the path's dialect, and never an error of the server's own.

The application runs in this process, with small models. `pytest -m slow` runs 20,000 bodies.
"""

import asyncio
import json
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing import JSON_VALUES, TEXTS, damaged
from quoit import Embedder, Reranker
from quoit.aio import AsyncEmbedder, AsyncReranker
from quoit.artifact import Artifact
from quoit.engine.scheduler import Scheduler
from quoit.server.app import ENDPOINTS, State, make_app
from quoit.server.dialects import ranking, shapes
from quoit.server.endpoint import Endpoint
from quoit.server.metrics import Metrics
from quoit.server.service import Models, Service
from quoit.server.settings import Settings
from server.running import Answer, ask_asgi

PLAIN, MANY = 400, 20_000
Ask = Callable[[str, bytes], Answer]

WORDS = st.sampled_from(
    ["query", "document", "search_query", "find a text", "float", "base64", "Right", "small", "text"]
)
"""Words that mean something in some field."""
NUMBERS = st.one_of(st.integers(-2, 100), st.sampled_from([32, 64, 96, 10**9, 2**31, 2**63, -(2**63), 2**64, 10**400]))
SHAPES: dict[str, Callable[[Any], bool]] = {
    "openai": lambda body: (
        body.keys() == {"error"}
        and body["error"].keys() == {"message", "type", "param", "code"}
        and body["error"]["type"]
    ),
    "tei": lambda body: body.keys() == {"error", "error_type"} and isinstance(body["error"], str),
    "cohere": lambda body: body.keys() == {"message", "id"} and isinstance(body["message"], str),
    "ollama": lambda body: body.keys() == {"error"} and isinstance(body["error"], str),
}
"""Whether a body is an error of a dialect."""


BY_SHAPE = (ranking.RankBody, shapes.AnyBody, shapes.VertexBody)
"""Bodies whose fields decide the dialect."""


@pytest.fixture(scope="module")
def ask(byte_artifact: Artifact, rerank_artifact: Artifact) -> Iterator[Ask]:
    """Answers of an application with an embedder and a reranker, in one event loop."""
    metrics, limits = Metrics(), Settings(token_ids=True, max_texts=8, max_documents=8, max_request_tokens=20_000)
    scheduler = Scheduler()
    embedder = Embedder(byte_artifact.folder, precision="fp32", provider="cpu", threads=1)
    reranker = Reranker(rerank_artifact.folder, precision="fp32", provider="cpu", threads=1)
    models = Models(
        AsyncEmbedder(embedder, scheduler=scheduler), AsyncReranker(reranker, scheduler=scheduler), "small", "judge"
    )
    app = make_app(State(Service(models, limits, metrics)), limits, metrics)
    with asyncio.Runner() as runner:
        yield lambda path, body: runner.run(ask_asgi(app, "POST", path, body, {"content-type": "application/json"}))
        for model in (models.embedder, models.reranker):
            assert model is not None
            runner.run(model.aclose())
    scheduler.close()
    embedder.close()
    reranker.close()


# ------------------------------------------------------------------------------------------------------ what is sent


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, and some that only look like it."""
    if get_origin(kind) in (Union, types.UnionType):
        return st.one_of(*map(values, get_args(kind)))
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is list:
        return st.lists(values(get_args(kind)[0]), max_size=4)
    if get_origin(kind) is dict:
        return st.dictionaries(st.sampled_from(["text", "title", "a"]), TEXTS | JSON_VALUES, max_size=2)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return bodies_of(kind)
    if kind is msgspec.Raw:
        return st.one_of(TEXTS, bodies_of(shapes.EMBED.body), bodies_of(shapes.SIMILARITY.body), JSON_VALUES)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: WORDS | TEXTS,
        int: NUMBERS,
        bool: st.booleans() | st.sampled_from(["true", "false", "1", 1, 0]),
        type(None): st.none(),
        Any: JSON_VALUES,
    }
    return simple[kind]


def mostly(fitting: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of one kind, and one in twenty of any other."""
    return st.integers(0, 19).flatmap(lambda number: fitting if number else JSON_VALUES)


def bodies_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies of a struct: what it must have, and up to three other fields."""
    hints = typing.get_type_hints(kind)
    fields = msgspec.structs.fields(kind)
    found = {field.encode_name: mostly(values(hints[field.name])) for field in fields}
    needed = [field.encode_name for field in fields if field.required]
    others = [name for name in found if name not in needed]
    chosen = st.lists(st.sampled_from(others), max_size=3, unique=True) if others else st.just([])
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: found[name] for name in [*needed, *names]}))


@st.composite
def requests(draw: st.DrawFn) -> tuple[Endpoint, str, bytes]:
    """An endpoint, one of its paths, and a body that may be damaged."""
    endpoint = draw(st.sampled_from(ENDPOINTS))
    path = draw(st.sampled_from(endpoint.paths)).replace("{model}", "small")
    body: Any = draw(JSON_VALUES) if draw(st.integers(0, 9)) == 0 else draw(bodies_of(endpoint.body))
    if isinstance(body, dict) and draw(st.integers(0, 9)) == 0 and body:
        del body[draw(st.sampled_from(sorted(body)))]
    content = json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return endpoint, path, draw(damaged(content)) if draw(st.integers(0, 9)) == 0 else content


def check(request: tuple[Endpoint, str, bytes], answered: Answer) -> None:
    endpoint, path, content = request
    status, headers, answer = answered
    assert headers["content-type"] == "application/json"
    assert status == 200 or 400 <= status < 500, (path, content, answer)
    if status != 200:
        names = ("openai", "tei") if endpoint.body in BY_SHAPE else (endpoint.dialect.name,)
        assert isinstance(answer, dict)
        assert any(SHAPES[name](answer) for name in {*names, endpoint.dialect.name}), (path, content, answer)


@pytest.mark.parametrize("cases", [PLAIN, pytest.param(MANY, marks=pytest.mark.slow)])
def test_no_body_is_an_error_of_the_server(ask: Ask, cases: int) -> None:
    reached: set[tuple[str, ...]] = set()

    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(request=requests())
    def send(request: tuple[Endpoint, str, bytes]) -> None:
        answered = ask(request[1], request[2])
        check(request, answered)
        if answered[0] == 200:
            reached.add(request[0].paths)

    send()
    assert len(reached) > len(ENDPOINTS) / 3, "the bodies are refused before they show anything"
