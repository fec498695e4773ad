"""Ollama's `/api/embed`, `/api/embeddings`, `/api/tags`, `/api/show` and `/api/version`.

Fields: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from quoit.server.call import Call, Dialect
from quoit.server.dialects.openai import STARTED, forms, model_names
from quoit.server.endpoint import Endpoint, made
from quoit.server.prompting import PromptFields
from quoit.server.refusals import RequestError
from quoit.server.service import Embed, Service


def error(refusal: RequestError, _: Call) -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": refusal.message}


OLLAMA = Dialect("ollama", error, {"model_kind": 400})
TAG = ":latest"
"""Tag that clients put behind a name without one."""


class OllamaBody(msgspec.Struct, kw_only=True):
    """The body of `POST /api/embed`. It has no field `prompt`, which is a text in this dialect."""

    input: str | list[str] | None = None
    model: str | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: Any = None
    options: dict[str, Any] | None = None
    instruction: str | None = None
    input_type: str | None = None


async def embed(service: Service, body: OllamaBody, call: Call) -> Any:
    """Answer `POST /api/embed`."""
    start = time.monotonic_ns()
    texts = [] if body.input is None else [body.input] if isinstance(body.input, str) else body.input
    name = body.model or service.models.embedder_name
    if not texts:
        return {"model": name, "embeddings": [], "total_duration": 0, "load_duration": 0, "prompt_eval_count": 0}
    ask = Embed(
        texts=texts,
        fields=PromptFields(instruction=body.instruction, input_type=body.input_type),
        model=untagged(body.model),
        dimensions=body.dimensions,
        truncate=body.truncate is not False,
    )
    try:
        embedded = await service.embed(ask, call)
    except RequestError as refusal:
        if refusal.code == "too_long":
            raise RequestError(400, "the input length exceeds the context length", "too_long") from refusal
        raise

    def make() -> dict[str, Any]:
        return {
            "model": name,
            "embeddings": forms(embedded.vectors, "float"),
            "total_duration": time.monotonic_ns() - start,
            "load_duration": 0,
            "prompt_eval_count": embedded.tokens,
        }

    return made(embedded.vectors, make)


def untagged(name: str | None) -> str | None:
    """Return a model's name without the tag that clients put behind it."""
    return None if name is None else name.removesuffix(TAG)


class OldBody(msgspec.Struct, kw_only=True):
    """The body of `POST /api/embeddings`."""

    prompt: str | None = None
    model: str | None = None
    keep_alive: Any = None
    options: dict[str, Any] | None = None


async def embed_one(service: Service, body: OldBody, call: Call) -> Any:
    """Answer `POST /api/embeddings`: one vector, not of unit length."""
    ask = Embed(texts=[body.prompt or ""], model=untagged(body.model), normalize=False, param="prompt")
    embedded = await service.embed(ask, call)
    return {"embedding": embedded.vectors[0].tolist()}


class ShowBody(msgspec.Struct, kw_only=True):
    """The body of `POST /api/show`."""

    model: str | None = None
    name: str | None = None


async def show(service: Service, body: ShowBody, _: Call) -> Any:
    """Answer `POST /api/show`."""
    asked = untagged(body.model or body.name)
    tags = list_tags(service)["models"]
    found = [each for each in tags if asked == each["name"]]
    if not found:
        raise RequestError(404, f"model {str(asked)[:80]!r} not found", "model_not_found", "model")
    capabilities = ["rerank" if asked == service.models.reranker_name else "embedding"]
    return {"details": found[0]["details"], "model_info": {}, "capabilities": capabilities}


def list_tags(service: Service) -> dict[str, Any]:
    """Answer `GET /api/tags`."""
    models = service.models
    entries = []
    for name in model_names(service):
        model = models.reranker if name == models.reranker_name else models.embedder
        assert model is not None
        pipeline = model.scheduled.pipeline
        variant = pipeline.artifact.variant(pipeline.session.choice.precision)
        entries.append(
            {
                "name": name,
                "model": name,
                "modified_at": datetime.fromtimestamp(STARTED, UTC).isoformat(),
                "size": sum(record.bytes for record in variant.files),
                "digest": variant.files[0].sha256,
                "details": {
                    "format": "onnx",
                    "family": "qwen3",
                    "families": ["qwen3"],
                    "parameter_size": "",
                    "quantization_level": pipeline.session.choice.precision,
                },
            }
        )
    return {"models": entries}


ENDPOINTS = (
    Endpoint(("/api/embed",), OLLAMA, OllamaBody, embed, "Vectors of texts, as Ollama gives them."),
    Endpoint(("/api/embeddings",), OLLAMA, OldBody, embed_one, "The vector of a text, as Ollama's older route."),
    Endpoint(("/api/show",), OLLAMA, ShowBody, show, "A model, as Ollama shows it."),
)
