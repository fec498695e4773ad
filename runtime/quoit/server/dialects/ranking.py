"""Rankings and scores: one answer serves the clients of Cohere, Jina, vLLM, llama.cpp and SGLang.

Fields: Cohere v2 (https://docs.cohere.com/reference/rerank), Jina (https://jina.ai/reranker), vLLM's `instruction` and
`truncate_prompt_tokens`, SGLang's `instruct`. Text Embeddings Inference has the same path with `texts` for `documents`.
"""

from typing import Any
from uuid import uuid4

import msgspec

from quoit.engine.scoring import best_first
from quoit.server.call import Call
from quoit.server.dialects.cohere import COHERE
from quoit.server.dialects.openai import OPENAI, token_limit
from quoit.server.dialects.tei import TEI, RerankBody
from quoit.server.dialects.tei import rerank as rerank_texts
from quoit.server.endpoint import Endpoint
from quoit.server.refusals import RequestError, wrong
from quoit.server.service import Rerank, Scored, Service

MAX_TOP = 1 << 31
Document = str | dict[str, Any]


class RankBody(RerankBody, kw_only=True):
    """The body of `POST /rerank`: with `documents`, or in the dialect of Text Embeddings Inference with `texts`."""

    documents: list[Document] | None = None
    model: str | None = None
    top_k: int | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = None
    truncate_prompt_tokens: int | None = None
    priority: int | None = None
    rank_fields: list[str] | None = None


async def rank(service: Service, body: RankBody, call: Call) -> Any:
    """Answer `POST /rerank`; the field that is there decides the dialect."""
    if (body.documents is None) == (body.texts is None):
        raise RequestError(
            422,
            'send either {"query", "documents": […]} for an answer {"results": […]}, or {"query", "texts": […]} for a '
            "list as Text Embeddings Inference gives it",
            "validation",
            "documents",
        )
    if body.texts is not None:
        call.dialect = TEI
        return await rerank_texts(service, body, call)
    assert body.documents is not None
    if not body.documents:
        raise wrong("documents is empty; send a document", "documents", "empty")
    documents = [text_of(document, body.rank_fields) for document in body.documents]
    top = body.top_k if body.top_n is None else body.top_n
    if top is not None and not 0 <= top <= MAX_TOP:
        raise wrong(f"top_n {top} is out of bounds; use a number from 1 on, or 0 for all", "top_n")
    scored = await service.rerank(
        Rerank(
            pairs=[(body.query, document) for document in documents],
            model=body.model,
            instruction=body.instruct if body.instruction is None else body.instruction,
            activation="logit" if body.raw_scores else "sigmoid",
            truncate=body.truncate is not False,
            max_document_tokens=body.max_tokens_per_doc,
            max_tokens=token_limit(body.truncate_prompt_tokens),
            priority=body.priority,
        ),
        call,
    )
    return ranking(scored, documents, top or None, with_texts=body.return_documents is not False)


def text_of(document: Document, fields: list[str] | None) -> str:
    """Return the text of a document; an object has it in `text`, or in the fields that are ranked by."""
    if isinstance(document, str):
        return document
    values = [document.get(name) for name in fields or ["text"]]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) != len(values):
        raise wrong("a document has no text; send strings, or objects with a text", "documents")
    return "\n".join(texts)


def ranking(scored: Scored, documents: list[str], top: int | None, *, with_texts: bool) -> dict[str, Any]:
    """Return the answer of a ranking, best first."""
    results = []
    for index in best_first(scored.scores, top).tolist():
        entry: dict[str, Any] = {"index": index, "relevance_score": float(scored.scores[index])}
        results.append(entry | ({"document": {"text": documents[index]}} if with_texts else {}))
    return {
        "id": f"rerank-{uuid4().hex}",
        "object": "rerank",
        "model": scored.model,
        "results": results,
        "usage": {"prompt_tokens": scored.tokens, "total_tokens": scored.tokens},
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": scored.tokens},
        },
    }


class ScoreBody(msgspec.Struct, kw_only=True):
    """The body of `POST /score`: one text or several on either side."""

    model: str | None = None
    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None
    items: str | list[str] | None = None
    data_1: str | list[str] | None = None
    data_2: str | list[str] | None = None
    instruction: str | None = None
    raw_scores: bool | None = None
    truncate_prompt_tokens: int | None = None
    priority: int | None = None


async def score(service: Service, body: ScoreBody, call: Call) -> Any:
    """Answer `POST /score`: one query and each document, or as many queries as documents, in pairs."""
    sides = []
    for names in (("text_1", "queries", "data_1"), ("text_2", "documents", "items", "data_2")):
        given = [(name, getattr(body, name)) for name in names if getattr(body, name) is not None]
        if len(given) != 1:
            raise wrong(f"{len(given)} of the fields {', '.join(names)} are there; send one", names[0])
        name, value = given[0]
        sides.append([value] if isinstance(value, str) else value)
        if not sides[-1]:
            raise wrong(f"{name} is empty; send a text", name, "empty")
    left, right = sides
    if len(left) == 1:
        left = left * len(right)
    if len(left) != len(right):
        raise wrong(f"{len(left)} texts meet {len(right)}; send one query, or as many as documents", "text_1")
    scored = await service.rerank(
        Rerank(
            pairs=list(zip(left, right, strict=True)),
            model=body.model,
            instruction=body.instruction,
            activation="logit" if body.raw_scores else "sigmoid",
            max_tokens=token_limit(body.truncate_prompt_tokens),
            priority=body.priority,
            param="text_2",
        ),
        call,
    )
    data = [{"index": index, "object": "score", "score": value} for index, value in enumerate(scored.scores.tolist())]
    usage = {"prompt_tokens": scored.tokens, "total_tokens": scored.tokens}
    return {"id": f"score-{uuid4().hex}", "object": "list", "model": scored.model, "data": data, "usage": usage}


RERANK = Endpoint(
    ("/rerank", "/v1/rerank", "/reranking", "/v1/reranking"),
    OPENAI,
    RankBody,
    rank,
    "A ranking of documents.",
    by_body=True,
)
COHERE_RERANK = Endpoint(("/v2/rerank",), COHERE, RankBody, rank, "A ranking of documents, with Cohere's errors.")
SCORE = Endpoint(("/score", "/v1/score"), OPENAI, ScoreBody, score, "Scores of pairs, as vLLM gives them.")
ENDPOINTS = (RERANK, COHERE_RERANK, SCORE)
