"""OpenAI's embeddings, as OpenAI, Azure, Jina, Voyage and vLLM extend them.

Fields: https://platform.openai.com/docs/api-reference/embeddings; Jina's `task`, `embedding_type` and `late_chunking`:
https://jina.ai/embeddings; Voyage's `input_type`, `output_dimension`, `output_dtype`:
https://docs.voyageai.com/reference/embeddings-api; vLLM's `truncate_prompt_tokens` and `priority`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from quoit.engine.pooling import Dtype, Vectors, pack_bits
from quoit.server.call import Call, Dialect
from quoit.server.endpoint import Endpoint, Large
from quoit.server.prompting import PromptFields
from quoit.server.refusals import RequestError, wrong
from quoit.server.service import INLINE_VALUES, Embed, Embedded, Service, to_integers

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
SERVER_ERROR = 500

Item = str | int | list[int] | dict[str, Any]
Encoding = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]


def error(refusal: RequestError, _: Call) -> dict[str, Any]:
    """Return the body of an error."""
    kind = TYPES.get(refusal.status, "server_error" if refusal.status >= SERVER_ERROR else "invalid_request_error")
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}


OPENAI = Dialect("openai", error, {"model_kind": 400})


class EmbeddingsBody(PromptFields, kw_only=True):
    """The body of `POST /v1/embeddings`."""

    input: str | list[Item]
    model: str | None = None
    encoding_format: Encoding | None = None
    embedding_type: Encoding | list[Encoding] | None = None
    output_dtype: Literal["float", "int8", "uint8", "binary", "ubinary"] | None = None
    dimensions: int | None = None
    output_dimension: int | None = None
    normalized: bool | None = None
    truncate: bool | None = None
    truncation: bool | None = None
    truncate_prompt_tokens: int | None = None
    late_chunking: bool | None = None
    priority: int | None = None


async def embeddings(service: Service, body: EmbeddingsBody, call: Call) -> Any:
    """Answer `POST /v1/embeddings`."""
    if body.late_chunking:
        raise wrong("late_chunking is not supported; leave it out", "late_chunking")
    texts, ids = split_input(body.input, "input")
    most = body.truncate_prompt_tokens
    ask = Embed(
        texts=texts,
        ids=ids,
        fields=body,
        model=body.model,
        dimensions=body.output_dimension if body.dimensions is None else body.dimensions,
        normalize=body.normalized is not False,
        truncate=body.truncate is not False and body.truncation is not False,
        max_tokens=None if most == -1 else most,
        priority=body.priority,
    )
    embedded = await service.embed(ask, call)
    form = encoding_of(body)
    make: Callable[[], Any] = lambda: answer(embedded, form)  # noqa: E731
    return Large(make) if embedded.vectors.size > INLINE_VALUES else make()


def encoding_of(body: EmbeddingsBody) -> Encoding:
    """Return the form of the vectors; the first of the fields that name it counts."""
    kind = body.embedding_type
    if isinstance(kind, list):
        if len(kind) != 1:
            raise wrong(f"embedding_type has {len(kind)} items; name one", "embedding_type")
        kind = kind[0]
    if kind is not None and body.encoding_format in (None, "float"):
        return kind
    dtype = body.output_dtype
    if dtype is not None and dtype != "float" and body.encoding_format in (None, "float"):
        return dtype
    return body.encoding_format or "float"


def answer(embedded: Embedded, form: Encoding) -> dict[str, Any]:
    """Return the body of an answer."""
    vectors = forms(embedded.vectors, form)
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return {"object": "list", "data": data, "model": embedded.model, "usage": usage}


def forms(vectors: Vectors, form: Encoding) -> Sequence[Any]:
    """Return each vector as numbers, or as the bytes of float32 that become base64."""
    if form == "base64":
        return [memoryview(vector) for vector in vectors]
    return list(numbers(vectors, "float32" if form == "float" else form).tolist())


def numbers(vectors: Vectors, dtype: Dtype) -> Vectors:
    """Return vectors in another type of numbers; the binary ones have eight dimensions in a number."""
    match dtype:
        case "int8" | "uint8":
            return to_integers(vectors, dtype)
        case "ubinary":
            return pack_bits(vectors)
        case "binary":
            return (pack_bits(vectors).astype("int16") - 128).astype("int8")
    return vectors


def split_input(given: str | Sequence[Item], param: str) -> tuple[list[str], list[list[int]]]:
    """Return the texts of an input, or its rows of token ids.

    Raises:
        RequestError: it is empty, or its items are of several kinds.
    """
    if isinstance(given, str):
        return [given], []
    if not given:
        raise wrong(f"{param} is empty; send a text", param, "empty")
    plain = [item["text"] if isinstance(item, dict) and "text" in item else item for item in given]
    texts = [item for item in plain if isinstance(item, str)]
    numbers = [item for item in plain if isinstance(item, int)]
    rows = [item for item in plain if isinstance(item, list)]
    if len(texts) == len(given):
        return texts, []
    if len(numbers) == len(given):
        return [], [numbers]
    if len(rows) == len(given) and all(isinstance(number, int) for row in rows for number in row):
        return [], rows
    raise wrong(f"{param} mixes kinds of items; send texts, or objects with a text", param)


def model_card(name: str) -> dict[str, Any]:
    """Return the entry of a model in `GET /v1/models`."""
    return {"id": name, "object": "model", "created": STARTED, "owned_by": "quoit"}


STARTED = int(time.time())
"""Time when this process began, which stands for when a model was made."""


def model_names(service: Service) -> list[str]:
    """Return the names that requests may use."""
    models = service.models
    names = []
    if models.embedder is not None:
        names += [models.embedder_name, f"{models.embedder_name}:query", f"{models.embedder_name}:document"]
    if models.reranker is not None:
        names.append(models.reranker_name)
    return names


def list_models(service: Service) -> dict[str, Any]:
    """Answer `GET /v1/models`."""
    return {"object": "list", "data": [model_card(name) for name in model_names(service)]}


def find_model(service: Service, name: str) -> dict[str, Any]:
    """Answer `GET /v1/models/{name}`.

    Raises:
        RequestError: no model has that name.
    """
    names = model_names(service)
    if name not in names:
        known = ", ".join(names)
        raise RequestError(
            404, f"model {name[:80]!r} is not served here; use one of {known}", "model_not_found", "model"
        )
    return model_card(name)


EMBEDDINGS = Endpoint(
    ("/v1/embeddings", "/embeddings", "/openai/deployments/{model}/embeddings"),
    OPENAI,
    EmbeddingsBody,
    embeddings,
    "Vectors of texts, as OpenAI, Azure, Jina and Voyage give them.",
)


class ErrorBody(msgspec.Struct):
    """The body of an error."""

    error: dict[str, Any]
