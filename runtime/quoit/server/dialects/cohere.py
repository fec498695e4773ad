"""Cohere's `/v1/embed` and `/v2/embed`. Fields: https://docs.cohere.com/reference/embed."""

from typing import Any, Literal
from uuid import uuid4

import msgspec

from quoit.engine.pooling import Vectors
from quoit.server.call import Call, Dialect
from quoit.server.dialects.openai import Encoding, forms
from quoit.server.endpoint import Endpoint, made
from quoit.server.prompting import PromptFields
from quoit.server.refusals import RequestError, wrong
from quoit.server.service import Embed, Service


def error(refusal: RequestError, call: Call) -> dict[str, Any]:
    """Return the body of an error."""
    return {"message": refusal.message, "id": call.id}


COHERE = Dialect("cohere", error, {"model_kind": 400})


class Content(msgspec.Struct):
    """A part of an input."""

    type: str
    text: str | None = None


class Input(msgspec.Struct):
    """An input of several parts."""

    content: list[Content]


class EmbedBody(PromptFields, kw_only=True):
    """The body of `POST /v1/embed` and `POST /v2/embed`."""

    model: str | None = None
    texts: list[str] | None = None
    inputs: list[Input] | None = None
    embedding_types: list[Encoding] | None = None
    output_dimension: int | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    max_tokens: int | None = None
    priority: int | None = None


async def embed_v1(service: Service, body: EmbedBody, call: Call) -> Any:
    """Answer `POST /v1/embed`: a list of vectors, unless types are named."""
    return await embed(service, body, call, "1")


async def embed_v2(service: Service, body: EmbedBody, call: Call) -> Any:
    """Answer `POST /v2/embed`: vectors by type."""
    return await embed(service, body, call, "2")


async def embed(service: Service, body: EmbedBody, call: Call, version: str) -> Any:
    """Answer both versions."""
    if body.truncate == "START":
        raise wrong("truncate START is not supported; use END", "truncate")
    texts = texts_of(body)
    ask = Embed(
        texts=texts,
        fields=body,
        model=body.model,
        dimensions=body.output_dimension,
        truncate=body.truncate != "NONE",
        max_tokens=body.max_tokens,
        priority=body.priority,
        param="texts",
    )
    embedded = await service.embed(ask, call)
    found: dict[str, Any] = {
        "id": uuid4().hex,
        "texts": texts,
        "meta": {"api_version": {"version": version}, "billed_units": {"input_tokens": embedded.tokens}},
    }

    def make() -> dict[str, Any]:
        return found | by_type(embedded.vectors, body.embedding_types, version)

    return made(embedded.vectors, make)


def by_type(vectors: Vectors, types: list[Encoding] | None, version: str) -> dict[str, Any]:
    """Return the part of the answer that has the vectors."""
    if version == "1" and not types:
        return {"response_type": "embeddings_floats", "embeddings": forms(vectors, "float")}
    chosen = types or ["float"]
    return {"response_type": "embeddings_by_type", "embeddings": {name: forms(vectors, name) for name in chosen}}


def texts_of(body: EmbedBody) -> list[str]:
    """Return the texts of a body.

    Raises:
        RequestError: there are none, or an input is no text.
    """
    if (body.texts is None) == (body.inputs is None):
        raise wrong("send either texts or inputs", "texts")
    texts = body.texts
    if texts is None:
        assert body.inputs is not None
        texts = []
        for given in body.inputs:
            parts = [part.text for part in given.content]
            if any(part.type != "text" or part.text is None for part in given.content):
                raise wrong("inputs has a part that is no text; this server embeds texts alone", "inputs")
            texts.append("\n".join(part for part in parts if part is not None))
    if not texts:
        raise wrong("texts is empty; send a text", "texts", "empty")
    return texts


ENDPOINTS = (
    Endpoint(("/v1/embed",), COHERE, EmbedBody, embed_v1, "Vectors of texts, as Cohere's first version gives them."),
    Endpoint(("/v2/embed",), COHERE, EmbedBody, embed_v2, "Vectors of texts, as Cohere gives them."),
)
