"""LlamaIndex: an index finds, a ranking orders, events are seen, and settings survive."""

import asyncio
import pickle
from typing import Any

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.quoit import QuoitEmbedding
from llama_index.postprocessor.quoit_rerank import QuoitRerank

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER
from quoit import Embedder, Reranker

TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies.", "line one\nline two"]
QUERY = "What is the capital of China?"


@pytest.fixture
def model() -> QuoitEmbedding:
    return QuoitEmbedding(model_name=EMBEDDER, options=OPTIONS)


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]


def test_vectors_are_quoits(model: QuoitEmbedding, embedder: Embedder) -> None:
    assert isinstance(model, BaseEmbedding)
    assert model.get_text_embedding_batch(TEXTS) == embedder.encode_document(TEXTS).tolist()
    assert model.get_text_embedding(TEXTS[0]) == embedder.encode_document(TEXTS[0]).tolist()
    assert model.get_query_embedding(QUERY) == embedder.encode_query(QUERY).tolist()
    assert asyncio.run(model.aget_query_embedding(QUERY)) == embedder.encode_query(QUERY).tolist()
    assert asyncio.run(model.aget_text_embedding_batch(TEXTS)) == embedder.encode_document(TEXTS).tolist()


def test_thousands_of_texts_come_at_once(model: QuoitEmbedding) -> None:
    seen: list[int] = []
    whole = QuoitEmbedding._get_text_embeddings

    class Counting(QuoitEmbedding):
        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            seen.append(len(texts))
            return whole(self, texts)

    Counting(model_name=EMBEDDER, options=OPTIONS).get_text_embedding_batch([f"{n}" for n in range(3000)])
    assert seen == [2048, 952]


def test_settings_and_pickles_give_the_same_vectors(model: QuoitEmbedding) -> None:
    vector = model.get_query_embedding(QUERY)
    for again in (QuoitEmbedding.from_dict(model.to_dict()), pickle.loads(pickle.dumps(model))):
        assert again.get_query_embedding(QUERY) == vector
        assert again.embedder is model.embedder


def test_an_index_finds_the_answer(model: QuoitEmbedding) -> None:
    index = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=model)
    rerank = QuoitRerank(model=RERANKER, top_n=1, options=OPTIONS)
    retrieved = index.as_retriever(similarity_top_k=3).retrieve(QUERY)
    assert retrieved[0].text == TEXTS[0]
    assert [node.text for node in rerank.postprocess_nodes(retrieved, query_str=QUERY)] == [TEXTS[0]]


def test_events_are_seen(model: QuoitEmbedding) -> None:
    seen: list[str] = []

    class Handler(BaseEventHandler):
        @classmethod
        def class_name(cls) -> str:
            return "Handler"

        def handle(self, event: Any, **_: Any) -> None:
            seen.append(type(event).__name__)

    get_dispatcher().add_event_handler(Handler())
    model.get_text_embedding_batch(TEXTS)
    QuoitRerank(model=RERANKER, options=OPTIONS).postprocess_nodes(nodes(), query_str=QUERY)
    assert [name for name in seen if "Embedding" in name] == ["EmbeddingStartEvent", "EmbeddingEndEvent"]
    assert [name for name in seen if "ReRank" in name] == ["ReRankStartEvent", "ReRankEndEvent"]


def test_nodes_are_ranked_as_quoit_does(reranker: Reranker) -> None:
    rerank = QuoitRerank(model=RERANKER, top_n=2, keep_retrieval_score=True, options=OPTIONS)
    assert isinstance(rerank, BaseNodePostprocessor)
    found = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    expected = reranker.rank(QUERY, TEXTS, top_k=2)
    assert [(TEXTS.index(node.text.split("\n\n")[-1]), node.score) for node in found] == [
        (ranked["index"], ranked["score"]) for ranked in expected
    ]
    assert found[0].node.metadata["retrieval_score"] == 0.5
    assert rerank.postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(ValueError, match="a ranking needs a query"):
        rerank.postprocess_nodes(nodes())
    assert QuoitRerank.from_dict(rerank.to_dict()).top_n == 2
