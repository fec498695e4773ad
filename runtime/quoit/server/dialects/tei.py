"""Text Embeddings Inference: `/embed`, `/rerank`, `/similarity`, `/predict`, `/tokenize`, `/decode`.

Fields and codes: its own sources, router/src/http/{types,server}.rs, version 1.9.
"""

from typing import Any, Literal

import msgspec

from quoit.engine.pooling import normalize
from quoit.engine.scoring import best_first
from quoit.server.call import Call, Dialect
from quoit.server.dialects.openai import forms, split_input
from quoit.server.endpoint import Endpoint, made
from quoit.server.prompting import PromptFields
from quoit.server.refusals import RequestError, wrong
from quoit.server.service import Embed, Rerank, Service
from quoit.text.prompts import check_text

KINDS = {400: "Validation", 413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded", 503: "Unhealthy"}
Direction = Literal["Left", "Right", "left", "right"]
PAIR = 2


def error(refusal: RequestError, _: Call) -> dict[str, Any]:
    """Return the body of an error."""
    kind = "Empty" if refusal.code == "empty" else KINDS.get(refusal.status, "Backend")
    return {"error": refusal.message, "error_type": kind}


TEI = Dialect("tei", error, {400: 422, "empty": 400, "malformed": 400, 404: 422})


class Options(PromptFields, kw_only=True):
    """Options of bodies that have texts to embed.

    Attributes:
        truncate: False to refuse long texts; they are cut by default.
        truncation_direction: which end is cut; this server cuts the right one alone.
    """

    truncate: bool | None = None
    truncation_direction: Direction | None = None


class EmbedBody(Options, kw_only=True):
    """The body of `POST /embed`."""

    inputs: str | list[str | int | list[int] | dict[str, Any]]
    normalize: bool | None = None
    dimensions: int | None = None
    encoding_format: str | None = None


def truncates(truncate: bool | None, direction: str | None) -> bool:
    """Return whether long texts are cut.

    Raises:
        RequestError: the direction is unknown, or the left end should be cut.
    """
    if (direction or "right").lower() != "right":
        raise wrong(f"truncation_direction {str(direction)[:80]!r} is not supported; use Right", "truncation_direction")
    return truncate is not False


async def embed(service: Service, body: EmbedBody, call: Call) -> Any:
    """Answer `POST /embed`: always a list of vectors, also for one text."""
    texts, ids = split_input(body.inputs, "inputs")
    ask = Embed(
        texts=texts,
        ids=ids,
        fields=body,
        dimensions=body.dimensions,
        normalize=body.normalize is not False,
        truncate=truncates(body.truncate, body.truncation_direction),
        param="inputs",
    )
    embedded = await service.embed(ask, call)
    form: Literal["base64", "float"] = "base64" if body.encoding_format == "base64" else "float"
    return made(embedded.vectors, lambda: forms(embedded.vectors, form))


class SimilarityInputs(msgspec.Struct):
    """A sentence, and those to compare it with."""

    source_sentence: str
    sentences: list[str]


class SimilarityBody(msgspec.Struct, kw_only=True):
    """The body of `POST /similarity`."""

    inputs: SimilarityInputs
    parameters: Options | None = None


async def similarity(service: Service, body: SimilarityBody, call: Call) -> Any:
    """Answer `POST /similarity` with the cosine of the sentence and each other one."""
    options = body.parameters or Options()
    if not body.inputs.sentences:
        raise wrong("inputs.sentences is empty; send a sentence", "inputs", "empty")
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    ask = Embed(
        texts=texts, fields=options, truncate=truncates(options.truncate, options.truncation_direction), param="inputs"
    )
    vectors = normalize((await service.embed(ask, call)).vectors)
    return (vectors[1:] @ vectors[0]).tolist()


class RerankBody(msgspec.Struct, kw_only=True):
    """The body of `POST /rerank` in this dialect; others have `documents`."""

    query: str
    texts: list[str] | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None
    top_n: int | None = None
    instruction: str | None = None
    instruct: str | None = None


async def rerank(service: Service, body: RerankBody, call: Call) -> Any:
    """Answer `POST /rerank` with a list, best first."""
    if not body.texts:
        raise wrong("texts is empty; send a text", "texts", "empty")
    scored = await service.rerank(
        Rerank(
            pairs=[(body.query, text) for text in body.texts],
            instruction=body.instruct if body.instruction is None else body.instruction,
            activation="logit" if body.raw_scores else "sigmoid",
            truncate=truncates(body.truncate, body.truncation_direction),
            param="texts",
        ),
        call,
    )
    entries: list[dict[str, Any]] = []
    for index in best_first(scored.scores, body.top_n or None).tolist():
        entry = {"index": index, "score": float(scored.scores[index])}
        entries.append(entry | ({"text": body.texts[index]} if body.return_text else {}))
    return entries


class PredictBody(msgspec.Struct, kw_only=True):
    """The body of `POST /predict`: a pair of texts, or a list of pairs."""

    inputs: str | list[str | list[str]]
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    raw_scores: bool | None = None


async def predict(service: Service, body: PredictBody, call: Call) -> Any:
    """Answer `POST /predict`: the score of a pair, or of each of a list."""
    given = body.inputs
    single = not isinstance(given, str) and len(given) == PAIR and all(isinstance(item, str) for item in given)
    pairs = [given] if single else given
    if isinstance(pairs, str) or not pairs or any(isinstance(p, str) or len(p) != PAIR for p in pairs):
        raise wrong("inputs is no pair and no list of pairs; send [query, document]", "inputs")
    scored = await service.rerank(
        Rerank(
            pairs=[(pair[0], pair[1]) for pair in pairs],  # type: ignore[misc]
            activation="logit" if body.raw_scores else "sigmoid",
            truncate=truncates(body.truncate, body.truncation_direction),
            param="inputs",
        ),
        call,
    )
    found = [[{"score": score, "label": LABEL}] for score in scored.scores.tolist()]
    return found[0] if single else found


LABEL = "yes"
"""Name of the score: the probability of the answer yes."""


class TokenizeBody(msgspec.Struct, kw_only=True):
    """The body of `POST /tokenize`."""

    inputs: str | list[str]
    add_special_tokens: bool | None = None
    prompt_name: str | None = None


async def tokenize(service: Service, body: TokenizeBody, call: Call) -> Any:
    """Answer `POST /tokenize` with the tokens of each text, and where they are in it."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    if len(texts) > service.settings.max_texts:
        raise wrong(f"inputs has {len(texts):,} items; send {service.settings.max_texts:,} at most", "inputs")
    call.texts = len(texts)
    prompt = ""
    if body.prompt_name is not None and service.prompts is not None:
        prompt = service.prompts.named(body.prompt_name, "prompt_name").text
    scheduled = (service.models.embedder or service.reranker()).scheduled
    checked = [prompt + check_text(text, f"inputs[{index}]") for index, text in enumerate(texts)]
    return await scheduled.apart(_tokens, scheduled.pipeline.tokenizer, checked, body.add_special_tokens is not False)


def _tokens(tokenizer: Any, texts: list[str], specials: bool) -> list[list[dict[str, Any]]]:
    """Return the tokens of each text; those around it have no place in it."""
    found = []
    for text in texts:
        encoding = tokenizer.tokenizer.encode(text[: tokenizer.max_characters], add_special_tokens=False)
        tokens = [
            {"id": number, "text": text[start:stop], "special": False, "start": start, "stop": stop}
            for number, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        ]
        room = tokenizer.max_tokens - len(tokenizer.before) - len(tokenizer.after)
        if specials:
            before, after = (
                [
                    {"id": int(number), "text": tokenizer.tokenizer.id_to_token(int(number)), "special": True}
                    | {"start": None, "stop": None}
                    for number in ids
                ]
                for ids in (tokenizer.before, tokenizer.after)
            )
            tokens = [*before, *tokens[:room], *after]
        found.append(tokens)
    return found


class DecodeBody(msgspec.Struct, kw_only=True):
    """The body of `POST /decode`."""

    ids: list[int | list[int]]
    skip_special_tokens: bool | None = None


async def decode(service: Service, body: DecodeBody, call: Call) -> Any:
    """Answer `POST /decode` with the text of each row of token ids."""
    given = body.ids
    rows = [row for row in given if isinstance(row, list)]
    numbers = [number for number in given if isinstance(number, int)]
    if rows and numbers:
        raise wrong("ids mixes rows and ids; send one or the other", "ids")
    rows = rows or [numbers]
    scheduled = (service.models.embedder or service.reranker()).scheduled
    limit = scheduled.pipeline.artifact.manifest.vocab_size
    if any(not 0 <= number < limit for row in rows for number in row):
        raise wrong(f"ids has an id outside 0 to {limit - 1}; use those of this model's tokenizer", "ids")
    call.texts = len(rows)
    tokenizer = scheduled.pipeline.tokenizer.tokenizer
    skip = body.skip_special_tokens is not False
    return await scheduled.apart(lambda: tokenizer.decode_batch(rows, skip_special_tokens=skip))


def info(service: Service) -> dict[str, Any]:
    """Answer `GET /info`; clients read `model_type`, `max_input_length` and `max_client_batch_size`."""
    from quoit import __version__

    models = service.models
    model = models.embedder or models.reranker
    assert model is not None
    pipeline = model.scheduled.pipeline
    kind: dict[str, Any] = {"embedding": {"pooling": "last_token"}}
    if models.embedder is None:
        kind = {"reranker": {"id2label": {"0": LABEL}, "label2id": {LABEL: 0}}}
    return {
        "model_id": models.embedder_name or models.reranker_name,
        "model_sha": None,
        "model_dtype": pipeline.session.choice.precision,
        "served_model_name": models.embedder_name or models.reranker_name,
        "model_type": kind,
        "reranker": models.reranker_name or None,
        "max_concurrent_requests": service.settings.max_connections,
        "max_input_length": pipeline.tokenizer.max_tokens,
        "max_batch_tokens": pipeline.limits.stream_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": service.settings.max_texts,
        "auto_truncate": True,
        "tokenization_workers": 2,
        "dimension": None if models.embedder is None else models.embedder.embedder.dim,
        "min_dimension": None if models.embedder is None else models.embedder.embedder.contract.min_dim,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


ENDPOINTS = (
    Endpoint(("/embed",), TEI, EmbedBody, embed, "Vectors of texts."),
    Endpoint(("/similarity",), TEI, SimilarityBody, similarity, "Cosines of a sentence and others."),
    Endpoint(("/predict",), TEI, PredictBody, predict, "Scores of pairs."),
    Endpoint(("/tokenize",), TEI, TokenizeBody, tokenize, "Tokens of texts."),
    Endpoint(("/decode",), TEI, DecodeBody, decode, "Texts of token ids."),
)
