"""Ollama's Python client."""

import numpy as np
import ollama
import pytest

from clients.harness import QUERY, TEXTS, Answers, Server, same


@pytest.fixture
def client(server: Server) -> ollama.Client:
    return ollama.Client(host=server.url)


def test_vectors(client: ollama.Client, answers: Answers) -> None:
    response = client.embed(model="emb", input=TEXTS)
    assert same(response.embeddings, answers.document(TEXTS))
    assert response.prompt_eval_count
    assert same(client.embed(model="emb:query", input=QUERY).embeddings, answers.query([QUERY]))
    assert same(client.embed(model="emb", input=TEXTS, dimensions=64).embeddings, answers.document(TEXTS, dim=64))
    assert client.embed(model="emb", input=[]).embeddings == []
    nulls = ollama.Options(num_ctx=None, use_mmap=None)
    assert same(
        client.embed(model="emb", input=TEXTS, options=nulls, keep_alive=-1).embeddings, answers.document(TEXTS)
    )


def test_the_older_route_has_vectors_of_any_length(client: ollama.Client, answers: Answers) -> None:
    found = np.array(client.embeddings(model="emb", prompt=QUERY).embedding, np.float32)
    assert same(found, answers.document([QUERY], normalize=False)[0])


def test_models_are_listed_and_shown(client: ollama.Client) -> None:
    names = [str(model.model) for model in client.list().models]
    assert names[1:3] == [f"{names[0]}:query", f"{names[0]}:document"]
    assert [client.show(name).capabilities for name in names] == [*[["embedding"]] * 3, ["rerank"]]
    assert client.show(f"{names[0]}:latest").capabilities == ["embedding"]
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.show("other")


def test_errors_are_its_own(client: ollama.Client, strict_server: Server) -> None:
    with pytest.raises(ollama.ResponseError, match="the input length exceeds the context length") as caught:
        client.embed(model="emb", input="word " * 2000, truncate=False)
    assert caught.value.status_code == 400
    headers = {"authorization": f"Bearer {strict_server.key}"}
    strict = ollama.Client(host=strict_server.url, headers=headers)
    with pytest.raises(ollama.ResponseError, match="not") as caught:
        strict.embed(model="other", input=TEXTS)
    assert caught.value.status_code == 404
    name = strict.list().models[0].model
    assert len(strict.embed(model=f"{name}:latest", input=QUERY).embeddings) == 1
