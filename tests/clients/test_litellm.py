"""LiteLLM, by every provider that leads here."""

from typing import Any

import litellm
import pytest

from clients.harness import QUERY, TEXTS, Answers, Server, same

DOCUMENTS = [text for text in TEXTS if text]
INSTRUCTION = "Find the capital"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("openai/emb", "/v1"),
        ("hosted_vllm/emb", "/v1"),
        ("ollama/emb", ""),
        ("cohere/emb", "/v2/embed"),
        ("cohere/emb", "/v1/embed"),
        ("jina_ai/emb", "/v1"),
        ("infinity/emb", "/v1"),
    ],
)
def test_vectors(server: Server, answers: Answers, model: str, path: str) -> None:
    response = litellm.embedding(model=model, input=TEXTS, api_base=server.url + path, api_key="any")
    assert same([item["embedding"] for item in response.data], answers.document(TEXTS))
    assert response.usage.prompt_tokens


@pytest.mark.parametrize(
    ("model", "path", "options"),
    [
        ("openai/emb", "/v1", {"extra_body": {"input_type": "query"}}),
        ("hosted_vllm/emb:query", "/v1", {}),
        ("ollama/emb:query", "", {}),
        ("cohere/emb", "/v2/embed", {"input_type": "search_query"}),
        ("jina_ai/emb", "/v1", {"task": "retrieval.query"}),
    ],
)
def test_queries(server: Server, answers: Answers, model: str, path: str, options: dict[str, Any]) -> None:
    response = litellm.embedding(model=model, input=TEXTS, api_base=server.url + path, api_key="any", **options)
    assert same([item["embedding"] for item in response.data], answers.query(TEXTS))


@pytest.mark.parametrize(
    ("model", "path", "options"),
    [
        ("hosted_vllm/rer", "", {}),
        ("hosted_vllm/rer", "/v1", {}),
        ("hosted_vllm/rer", "", {"instruction": INSTRUCTION}),
        ("cohere/rer", "", {}),
        ("jina_ai/rer", "", {}),
        ("huggingface/rer", "", {}),
    ],
)
def test_rankings(server: Server, answers: Answers, model: str, path: str, options: dict[str, Any]) -> None:
    response = litellm.rerank(
        model=model, query=QUERY, documents=DOCUMENTS, top_n=3, api_base=server.url + path, api_key="any", **options
    )
    found = [(entry["index"], entry["relevance_score"]) for entry in response.results or []]
    assert found == answers.rank(QUERY, DOCUMENTS, **options)[:3]


def test_errors_are_its_own(server: Server, strict_server: Server) -> None:
    with pytest.raises(litellm.BadRequestError, match="clustering"):
        litellm.embedding(
            model="openai/emb",
            input=TEXTS,
            api_base=server.openai,
            api_key="any",
            extra_body={"input_type": "clustering"},
        )
    with pytest.raises(litellm.AuthenticationError):
        litellm.embedding(model="openai/emb", input=TEXTS, api_base=strict_server.openai, api_key="wrong")
    with pytest.raises(litellm.NotFoundError):
        litellm.embedding(model="openai/other", input=TEXTS, api_base=strict_server.openai, api_key=strict_server.key)
