"""Haystack: pipelines are written, read and run, and documents that came in stay as they were."""

import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.embedders.quoit import QuoitDocumentEmbedder, QuoitTextEmbedder
from haystack_integrations.components.rankers.quoit import QuoitRanker

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER
from quoit import Embedder, Reranker

TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies.", "line one\nline two"]
QUERY = "What is the capital of China?"


def documents() -> list[Document]:
    return [Document(content=text, meta={"title": f"title {number}"}) for number, text in enumerate(TEXTS)]


def test_vectors_are_quoits(embedder: Embedder) -> None:
    given = documents()
    found = QuoitDocumentEmbedder(EMBEDDER, options=OPTIONS).run(given)["documents"]
    assert [each.embedding for each in found] == embedder.encode_document(TEXTS).tolist()
    assert [each.embedding for each in given] == [None] * 3
    titled = QuoitDocumentEmbedder(EMBEDDER, meta_fields_to_embed=["title", "absent"], options=OPTIONS).run(given)
    expected = [f"title {number}\n{text}" for number, text in enumerate(TEXTS)]
    assert [each.embedding for each in titled["documents"]] == embedder.encode_document(expected).tolist()
    vector = QuoitTextEmbedder(EMBEDDER, options=OPTIONS).run(QUERY)["embedding"]
    assert vector == embedder.encode_query(QUERY).tolist()


def test_nothing_and_no_content(embedder: Embedder) -> None:
    component = QuoitDocumentEmbedder(EMBEDDER, options=OPTIONS)
    assert component.run([]) == {"documents": []}
    (found,) = component.run([Document(content=None)])["documents"]
    assert found.embedding == embedder.encode_document("").tolist()


def test_both_embedders_share_a_model() -> None:
    text, document = QuoitTextEmbedder(EMBEDDER, options=OPTIONS), QuoitDocumentEmbedder(EMBEDDER, options=OPTIONS)
    text.warm_up()
    document.warm_up()
    assert text._embedder is document._embedder


def test_a_pipeline_is_written_read_and_run() -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(QuoitDocumentEmbedder(EMBEDDER, options=OPTIONS).run(documents())["documents"])
    pipeline = Pipeline()
    pipeline.add_component("embedder", QuoitTextEmbedder(EMBEDDER, options=OPTIONS))
    pipeline.add_component("ranker", QuoitRanker(RERANKER, top_k=1, options=OPTIONS))
    again = Pipeline.loads(pipeline.dumps())
    again.add_component("retriever", InMemoryEmbeddingRetriever(store))
    again.connect("embedder.embedding", "retriever.query_embedding")
    again.connect("retriever.documents", "ranker.documents")
    found = again.run({"embedder": {"text": QUERY}, "ranker": {"query": QUERY}})["ranker"]["documents"]
    assert [each.content for each in found] == [TEXTS[0]]


def test_a_document_pipeline_is_written_and_read() -> None:
    pipeline = Pipeline()
    pipeline.add_component("embedder", QuoitDocumentEmbedder(EMBEDDER, meta_fields_to_embed=["title"], options=OPTIONS))
    again = Pipeline.loads(pipeline.dumps())
    assert again.to_dict() == pipeline.to_dict()


def test_documents_are_ranked_as_quoit_does(reranker: Reranker) -> None:
    found = QuoitRanker(RERANKER, options=OPTIONS).run(QUERY, documents(), top_k=2)["documents"]
    expected = reranker.rank(QUERY, TEXTS, top_k=2)
    assert [(TEXTS.index(each.content or ""), each.score) for each in found] == [
        (ranked["index"], ranked["score"]) for ranked in expected
    ]
    least = expected[0]["score"]
    kept = QuoitRanker(RERANKER, score_threshold=least, options=OPTIONS).run(QUERY, documents())["documents"]
    assert len(kept) == 1
    assert QuoitRanker(RERANKER).run(QUERY, []) == {"documents": []}


def test_wrong_input_names_the_other_component() -> None:
    with pytest.raises(TypeError, match="please use the QuoitDocumentEmbedder"):
        QuoitTextEmbedder(EMBEDDER).run(documents())
    with pytest.raises(TypeError, match="please use the QuoitTextEmbedder"):
        QuoitDocumentEmbedder(EMBEDDER).run(QUERY)
    with pytest.raises(ValueError, match="top_k is 0"):
        QuoitRanker(RERANKER, top_k=0)
    with pytest.raises(ValueError, match="query is empty"):
        QuoitRanker(RERANKER).run("", documents())
