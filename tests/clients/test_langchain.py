"""LangChain's classes of OpenAI, Cohere and Ollama."""

from typing import Any

import openai
import pytest
from langchain_cohere import CohereEmbeddings, CohereRerank
from langchain_core.documents import Document
from langchain_ollama import OllamaEmbeddings
from langchain_openai import OpenAIEmbeddings

from clients.harness import QUERY, TEXTS, Answers, Server, same

DOCUMENTS = [text for text in TEXTS if text]


def openai_embeddings(server: Server, **options: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(model="emb", base_url=server.openai, api_key="any", **options)


def test_its_default_sends_token_ids_of_another_model_and_is_told_what_to_set(server: Server) -> None:
    class Tokens:
        """Stands for tiktoken, whose vocabulary is a download: these are cl100k_base's ids of "hello world"."""

        def encode_ordinary(self, *_: Any, **__: Any) -> list[int]:
            return [15339, 1917]

        encode = encode_ordinary

    import tiktoken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiktoken, "encoding_for_model", lambda *_: Tokens())
        patch.setattr(tiktoken, "get_encoding", lambda *_: Tokens())
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
            openai_embeddings(server).embed_documents(["hello world"])


def test_with_it_set_vectors_are_those_of_embedder(server: Server, answers: Answers) -> None:
    embeddings = openai_embeddings(server, check_embedding_ctx_length=False)
    assert same(embeddings.embed_documents(["hello", ""]), answers.document(["hello", ""]))
    assert same(embeddings.embed_documents(TEXTS), answers.document(TEXTS))


@pytest.mark.parametrize(
    "options",
    [
        {"model": "emb:query"},
        {"default_headers": {"x-quoit-prompt": "query"}},
        {"model_kwargs": {"extra_body": {"input_type": "query"}}},
    ],
)
def test_a_query_is_asked_for(server: Server, answers: Answers, options: dict[str, Any]) -> None:
    embeddings = OpenAIEmbeddings(
        **{"model": "emb", "base_url": server.openai, "api_key": "any", "check_embedding_ctx_length": False} | options
    )
    assert same(embeddings.embed_query(QUERY), answers.query([QUERY])[0])


def test_cohere_embeddings(server: Server, answers: Answers) -> None:
    embeddings = CohereEmbeddings(model="emb", base_url=server.url, cohere_api_key="any")
    assert same(embeddings.embed_documents(TEXTS), answers.document(TEXTS))
    assert same(embeddings.embed_query(QUERY), answers.query([QUERY])[0])


def test_cohere_rerank(server: Server, answers: Answers) -> None:
    reranker = CohereRerank(model="rer", base_url=server.url, cohere_api_key="any", top_n=3)
    expected = answers.rank(QUERY, DOCUMENTS)[:3]
    found = reranker.rerank(DOCUMENTS, QUERY)
    assert [(entry["index"], entry["relevance_score"]) for entry in found] == expected
    documents = reranker.compress_documents([Document(page_content=text) for text in DOCUMENTS], QUERY)
    assert [document.page_content for document in documents] == [DOCUMENTS[index] for index, _ in expected]


def test_ollama_embeddings(server: Server, answers: Answers) -> None:
    embeddings = OllamaEmbeddings(model="emb", base_url=server.url)
    assert same(embeddings.embed_documents(TEXTS), answers.document(TEXTS))
    queries = OllamaEmbeddings(model="emb:query", base_url=server.url)
    assert same(queries.embed_query(QUERY), answers.query([QUERY])[0])
