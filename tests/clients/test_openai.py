"""OpenAI's Python client: vectors, prompts and errors."""

import asyncio
from typing import Any

import numpy as np
import openai
import pytest

from clients.harness import QUERY, TEXTS, Answers, Server, same

MODEL = "emb"


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.openai, api_key="any")


def vectors_of(response: Any) -> list[list[float]]:
    return [item.embedding for item in response.data]


def test_vectors_are_those_of_embedder(client: openai.OpenAI, answers: Answers) -> None:
    """base64, which the client asks for by itself, and numbers have the same bits."""
    packed = client.embeddings.create(model=MODEL, input=TEXTS)
    plain = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
    assert same(vectors_of(packed), answers.document(TEXTS))
    assert same(vectors_of(plain), answers.document(TEXTS))
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > len(TEXTS)
    assert packed.model == MODEL
    assert [item.index for item in packed.data] == list(range(len(TEXTS)))
    assert same(vectors_of(client.embeddings.create(model=MODEL, input=QUERY)), answers.document([QUERY]))


def test_the_async_client_gets_the_same(server: Server, answers: Answers) -> None:
    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=server.openai, api_key="any") as client:
            calls = [client.embeddings.create(model=MODEL, input=[text]) for text in TEXTS]
            return [vectors_of(response)[0] for response in await asyncio.gather(*calls)]

    assert same(asyncio.run(ask()), answers.document(TEXTS))


def test_fewer_dimensions_have_unit_length(client: openai.OpenAI, answers: Answers) -> None:
    found = vectors_of(client.embeddings.create(model=MODEL, input=TEXTS, dimensions=256))
    assert same(found, answers.document(TEXTS, dim=256))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_azure_names_a_deployment(server: Server, answers: Answers) -> None:
    client = openai.AzureOpenAI(
        azure_endpoint=server.url, azure_deployment="dep", api_key="any", api_version="2024-10-21"
    )
    response = client.embeddings.create(model="dep", input=TEXTS)
    assert same(vectors_of(response), answers.document(TEXTS))
    assert response.model == "dep"


def test_azure_sends_its_key_in_a_header_of_its_own(strict_server: Server, answers: Answers) -> None:
    name = models_of(strict_server)[0]
    client = openai.AzureOpenAI(azure_endpoint=strict_server.url, api_key=strict_server.key, api_version="2024-10-21")
    assert same(vectors_of(client.embeddings.create(model=name, input=TEXTS)), answers.document(TEXTS))


@pytest.mark.parametrize(
    "body",
    [
        {"input_type": "query"},
        {"input_type": "search_query"},
        {"prompt_name": "query"},
        {"task": "retrieval.query"},
    ],
)
def test_a_body_says_that_texts_are_queries(client: openai.OpenAI, answers: Answers, body: dict[str, Any]) -> None:
    response = client.embeddings.create(model=MODEL, input=TEXTS, extra_body=body)
    assert same(vectors_of(response), answers.query(TEXTS))


def test_a_header_and_the_models_name_say_so_too(server: Server, answers: Answers) -> None:
    client = openai.OpenAI(base_url=server.openai, api_key="any", default_headers={"x-quoit-prompt": "query"})
    assert same(vectors_of(client.embeddings.create(model=MODEL, input=TEXTS)), answers.query(TEXTS))
    plain = openai.OpenAI(base_url=server.openai, api_key="any")
    assert same(vectors_of(plain.embeddings.create(model="emb:query", input=TEXTS)), answers.query(TEXTS))
    name = models_of(server)[0]
    assert same(vectors_of(plain.embeddings.create(model=f"{name}:query", input=TEXTS)), answers.query(TEXTS))
    assert same(vectors_of(plain.embeddings.create(model=f"{name}:document", input=TEXTS)), answers.document(TEXTS))


def test_an_instruction_is_that_of_encode_query(client: openai.OpenAI, answers: Answers) -> None:
    for name in ("instruction", "instruct"):
        response = client.embeddings.create(model=MODEL, input=TEXTS, extra_body={name: "Find a duplicate"})
        assert same(vectors_of(response), answers.query(TEXTS, instruction="Find a duplicate"))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"extra_body": {"input_type": "clustering"}}, "input_type"),
        ({"dimensions": 100_000}, "dimensions"),
        ({"input": []}, "input"),
        ({"input": [15339, 1917]}, "input"),
        ({"extra_body": {"late_chunking": True}}, "late_chunking"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_a_wrong_value_is_a_bad_request_that_names_it(
    client: openai.OpenAI, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": MODEL, "input": TEXTS, **options})
    assert caught.value.param == param
    assert caught.value.code
    assert caught.value.type == "invalid_request_error"


def test_a_key_is_asked_for(strict_server: Server) -> None:
    client = openai.OpenAI(base_url=strict_server.openai, api_key="wrong")
    with pytest.raises(openai.AuthenticationError) as caught:
        client.embeddings.create(model=MODEL, input=TEXTS)
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_another_model_is_not_found(strict_server: Server) -> None:
    client = openai.OpenAI(base_url=strict_server.openai, api_key=strict_server.key)
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])


def models_of(server: Server) -> list[str]:
    client = openai.OpenAI(base_url=server.openai, api_key=server.key)
    return [model.id for model in client.models.list()]


def test_models_are_listed_and_found(server: Server) -> None:
    client = openai.OpenAI(base_url=server.openai, api_key="any")
    names = models_of(server)
    assert names[1:3] == [f"{names[0]}:query", f"{names[0]}:document"]
    assert [client.models.retrieve(name).id for name in names] == names
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/other")
    assert caught.value.code == "model_not_found"


@pytest.mark.usefixtures("overloaded")
def test_an_overload_is_a_rate_limit_that_is_tried_again(strict_server: Server, answers: Answers) -> None:
    """One client says what it was told; another one waits for as long, and gets its vectors."""
    name = models_of(strict_server)[0]
    impatient = openai.OpenAI(base_url=strict_server.openai, api_key=strict_server.key, max_retries=0)
    with pytest.raises(openai.RateLimitError) as caught:
        impatient.embeddings.create(model=name, input=TEXTS * 60)
    assert caught.value.code == "overloaded"
    assert int(caught.value.response.headers["retry-after-ms"]) >= 1
    before = strict_server.count("quoit_requests_total", status="429")
    patient = openai.OpenAI(base_url=strict_server.openai, api_key=strict_server.key, max_retries=20)
    response = patient.embeddings.create(model=name, input=TEXTS * 60)
    assert same(vectors_of(response), answers.document(TEXTS * 60))
    assert strict_server.count("quoit_requests_total", status="429") > before


@pytest.mark.usefixtures("overloaded")
def test_a_missed_deadline_is_not_tried_again(strict_server: Server) -> None:
    """It would be missed again. The wait was not foreseen, or the client would have been told to come later."""
    client = openai.OpenAI(base_url=strict_server.openai, api_key=strict_server.key)
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(
            model=models_of(strict_server)[0], input="word " * 900, extra_headers={"x-quoit-deadline-ms": "1"}
        )
    assert caught.value.status_code in (429, 504)
    if caught.value.status_code == 504:
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert strict_server.count("quoit_requests_total", status="504") == 1
