"""chonkie: chunks end where the subject changes, and vectors are quoit's."""

import asyncio
import pickle
import re

import numpy as np
import pytest
from chonkie import SemanticChunker
from chonkie.embeddings import AutoEmbeddings, BaseEmbeddings
from quoit_integrations.chonkie import QuoitEmbeddings

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder

CATS = "Cats are small animals that sleep all day. A cat hunts mice at night. Kittens drink the milk of their mother. "
STOCKS = (
    "The stock market fell by two percent. Investors sold shares of banks. The central bank raised its interest rates."
)
TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies.", "line one\nline two", ""]


@pytest.fixture
def embeddings() -> QuoitEmbeddings:
    return QuoitEmbeddings(EMBEDDER, options=OPTIONS)


def test_vectors_are_quoits(embeddings: QuoitEmbeddings, embedder: Embedder) -> None:
    assert isinstance(embeddings, BaseEmbeddings)
    assert np.array_equal(embeddings.embed_batch(TEXTS), embedder.encode_document(TEXTS))
    assert np.array_equal(embeddings.embed(TEXTS[0]), embedder.encode_document(TEXTS[0]))
    assert np.array_equal(embeddings(TEXTS[0]), embedder.encode_document(TEXTS[0]))
    assert np.array_equal(asyncio.run(embeddings.aembed(TEXTS[0])), embedder.encode_document(TEXTS[0]))
    assert embeddings.embed_batch([]) == []
    assert embeddings.dimension == embedder.dim
    small = QuoitEmbeddings(embedder, prompt="query", instruction="Cluster", dim=64)
    assert np.array_equal(small.embed_batch(TEXTS), embedder.encode_query(TEXTS, instruction="Cluster", dim=64))
    assert small.dimension == 64


def test_chunks_end_where_the_subject_changes(embeddings: QuoitEmbeddings, embedder: Embedder) -> None:
    chunks = SemanticChunker(embeddings, similarity_window=1)(CATS + STOCKS)
    assert [chunk.text for chunk in chunks] == [CATS, STOCKS]
    tokenizer = embedder.pipeline.tokenizer.tokenizer
    sentences = [sentence for chunk in chunks for sentence in re.findall(r"[^.]+\.\s?", chunk.text)]
    assert len(sentences) == 6
    counts = [len(tokenizer.encode(sentence, add_special_tokens=False).ids) for sentence in sentences]
    assert [chunk.token_count for chunk in chunks] == [sum(counts[:3]), sum(counts[3:])]


def test_chunks_keep_to_their_size_in_tokens(embeddings: QuoitEmbeddings) -> None:
    chunks = SemanticChunker(embeddings, chunk_size=20, similarity_window=1)(CATS + STOCKS)
    assert max(chunk.token_count for chunk in chunks) <= 20
    assert "".join(chunk.text for chunk in chunks) == CATS + STOCKS


def test_chonkie_takes_it_as_its_own_and_a_pickle_works(embeddings: QuoitEmbeddings) -> None:
    assert AutoEmbeddings.get_embeddings(embeddings) is embeddings
    again = pickle.loads(pickle.dumps(embeddings))
    assert np.array_equal(again.embed(TEXTS[0]), embeddings.embed(TEXTS[0]))


def test_a_reranker_is_refused() -> None:
    with pytest.raises(TypeError, match="is a reranker"):
        SemanticChunker(QuoitEmbeddings(RERANKER, options=OPTIONS))


def test_the_example_cuts_between_the_subjects(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("chonkie"), {})
    assert "their mother. ', 'The stock market fell" in capsys.readouterr().out
