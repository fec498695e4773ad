"""LangChain's own suites pass unmodified, and vectors and scores are quoit's."""

import pickle
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_quoit import QuoitCrossEncoder, QuoitEmbeddings, QuoitReranker
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER
from quoit import Embedder, Reranker

TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies.", "line one\nline two", ""]
QUERY = "What is the capital of China?"


class Ours:
    """What LangChain's suites test."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return QuoitEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": EMBEDDER, "options": OPTIONS}


class TestUnit(Ours, EmbeddingsUnitTests):
    """LangChain's unit tests."""

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"QUOIT_MODEL": EMBEDDER}, {}, {"model": EMBEDDER}


class TestIntegration(Ours, EmbeddingsIntegrationTests):
    """LangChain's integration tests."""


def documents() -> list[Document]:
    return [Document(text, metadata={"n": number}) for number, text in enumerate(TEXTS)]


def test_vectors_are_quoits(embedder: Embedder) -> None:
    embeddings = QuoitEmbeddings(model=EMBEDDER, options=OPTIONS)
    assert embeddings.embed_documents(TEXTS) == embedder.encode_document(TEXTS).tolist()
    assert embeddings.embed_query(QUERY) == embedder.encode_query(QUERY).tolist()
    assert embeddings.embed_documents([]) == []
    small = QuoitEmbeddings(model=EMBEDDER, dim=64, instruction="Find", options=OPTIONS)
    assert small.embed_query(QUERY) == embedder.encode_query(QUERY, dim=64, instruction="Find").tolist()


def test_a_loaded_model_is_shared_and_a_pickle_works(embedder: Embedder) -> None:
    assert QuoitEmbeddings.from_embedder(embedder).embedder is embedder
    first = QuoitEmbeddings(model=EMBEDDER, options=OPTIONS)
    assert QuoitEmbeddings(model=EMBEDDER, options=OPTIONS).embedder is first.embedder
    again = pickle.loads(pickle.dumps(first))
    assert again.embed_query(QUERY) == first.embed_query(QUERY)


def test_a_vector_store_finds_the_answer() -> None:
    store = InMemoryVectorStore.from_documents(documents(), QuoitEmbeddings(model=EMBEDDER, options=OPTIONS))
    assert store.similarity_search(QUERY, k=1)[0].page_content == TEXTS[0]


async def test_it_works_on_an_event_loop(embedder: Embedder) -> None:
    embeddings = QuoitEmbeddings(model=EMBEDDER, options=OPTIONS)
    assert await embeddings.aembed_query(QUERY) == embedder.encode_query(QUERY).tolist()


def test_documents_are_ranked_as_quoit_does(reranker: Reranker) -> None:
    compressor = QuoitReranker(model=RERANKER, top_n=2, options=OPTIONS)
    given = documents()
    found = compressor.compress_documents(given, QUERY)
    expected = reranker.rank(QUERY, TEXTS, top_k=2)
    assert [(each.metadata["n"], each.metadata["relevance_score"]) for each in found] == [
        (ranked["index"], ranked["score"]) for ranked in expected
    ]
    assert all("relevance_score" not in each.metadata for each in given)
    assert compressor.compress_documents([], QUERY) == []


def test_it_compresses_what_a_retriever_finds() -> None:
    store = InMemoryVectorStore.from_documents(documents(), QuoitEmbeddings(model=EMBEDDER, options=OPTIONS))
    for compressor in (
        QuoitReranker(model=RERANKER, top_n=1, options=OPTIONS),
        CrossEncoderReranker(model=QuoitCrossEncoder(model=RERANKER, options=OPTIONS), top_n=1),
    ):
        retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=store.as_retriever())
        assert [each.page_content for each in retriever.invoke(QUERY)] == [TEXTS[0]]


def test_a_model_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="is a reranker; use QuoitReranker"):
        QuoitEmbeddings(model=RERANKER, options=OPTIONS).embed_query(QUERY)
    with pytest.raises(TypeError, match="is an embedding model; use QuoitEmbeddings"):
        QuoitCrossEncoder(model=EMBEDDER, options=OPTIONS).score([(QUERY, "a")])
