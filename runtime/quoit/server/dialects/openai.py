"""OpenAI's embeddings, as OpenAI, Azure, Jina, Voyage and vLLM extend them.

Fields: https://platform.openai.com/docs/api-reference/embeddings; Jina's `task`, `embedding_type` and `late_chunking`:
https://jina.ai/embeddings; Voyage's `input_type`, `output_dimension`, `output_dtype`:
https://docs.voyageai.com/reference/embeddings-api; vLLM's `truncate_prompt_tokens` and `priority`; NVIDIA NIM's
`truncate` by words: https://docs.nvidia.com/nim/nemo-retriever/text-embedding/latest/reference.html.
"""

import time
from collections.abc import Sequence
from typing import Any, Literal

from quoit.engine.pooling import Vectors, pack_bits
from quoit.server.call import Call, Dialect
from quoit.server.endpoint import Endpoint, made
from quoit.server.prompting import PromptFields
from quoit.server.refusals import RequestError, wrong
from quoit.server.service import Embed, Embedded, Service, to_integers

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
SERVER_ERROR = 500
WORDS = {"END": True, "TRUE": True, "NONE": False, "FALSE": False}
"""Words for whether the end of a long text is cut."""

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
    truncate: bool | str | None = None
    truncation: bool | None = None
    truncate_prompt_tokens: int | None = None
    late_chunking: bool | None = None
    priority: int | None = None


async def embeddings(service: Service, body: EmbeddingsBody, call: Call) -> Any:
    """Answer `POST /v1/embeddings`."""
    if body.late_chunking:
        raise wrong("late_chunking is not supported; leave it out", "late_chunking")
    form, packed = encoding_of(body)
    texts, ids = split_input(body.input, "input")
    ask = Embed(
        texts=texts,
        ids=ids,
        fields=body,
        model=body.model,
        dimensions=body.output_dimension if body.dimensions is None else body.dimensions,
        normalize=body.normalized is not False,
        truncate=truncates(body.truncate) and body.truncation is not False,
        max_tokens=token_limit(body.truncate_prompt_tokens),
        priority=body.priority,
    )
    embedded = await service.embed(ask, call)
    return made(embedded.vectors, lambda: answer(embedded, form, packed=packed))


def truncates(given: bool | str | None) -> bool:
    """Return whether long texts are cut, from a boolean or one of NIM's words; they are by default.

    Raises:
        RequestError: the word is unknown, or the beginning should be cut.
    """
    if given is None or isinstance(given, bool):
        return given is not False
    if given.upper() not in WORDS:
        raise wrong(f"truncate {given[:80]!r} is not supported; use END, NONE, true or false", "truncate")
    return WORDS[given.upper()]


def token_limit(given: int | None) -> int | None:
    """Return the number of tokens that texts are cut to; vLLM's -1 is the model's own limit."""
    return None if given == -1 else given


def encoding_of(body: EmbeddingsBody) -> tuple[Encoding, bool]:
    """Return the type of the numbers, and whether their bytes become base64.

    Raises:
        RequestError: several types are named.
    """
    kinds = body.embedding_type if isinstance(body.embedding_type, list) else [body.embedding_type]
    if len(kinds) != 1:
        raise wrong(f"embedding_type has {len(kinds)} items; name one", "embedding_type")
    names = (kinds[0], body.output_dtype, body.encoding_format)
    kind = next((name for name in names if name not in (None, "float", "base64")), None)
    return kind or "float", "base64" in names


def answer(embedded: Embedded, form: Encoding, *, packed: bool) -> dict[str, Any]:
    """Return the body of an answer."""
    vectors = forms(embedded.vectors, form, packed=packed)
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return {"object": "list", "data": data, "model": embedded.model, "usage": usage}


def forms(vectors: Vectors, form: Encoding, *, packed: bool = False) -> Sequence[Any]:
    """Return each vector as numbers, or as the bytes that become base64."""
    values = numbers(vectors, form)
    return [memoryview(vector) for vector in values] if packed or form == "base64" else list(values.tolist())


def numbers(vectors: Vectors, form: Encoding) -> Vectors:
    """Return vectors in another type of numbers; the binary ones have eight dimensions in a number."""
    match form:
        case "int8" | "uint8":
            return to_integers(vectors, form)
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
    plain = [unwrapped(item) for item in given]
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


def unwrapped(item: Item) -> Item:
    """Return the text of an object that has one, and other items as they are."""
    text = item.get("text") if isinstance(item, dict) else None
    return text if isinstance(text, str) else item


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
