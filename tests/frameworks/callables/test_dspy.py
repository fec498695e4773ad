"""DSPy: a retriever finds with a prompt for each side, and no cache mixes models up."""

import asyncio
import copy
import pickle
from pathlib import Path

import dspy
import numpy as np
import pytest
from quoit_integrations.dspy import QuoitEmbedder, QuoitRetriever

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder

TEXTS = ["Gravity attracts two bodies.", "The capital of China is Beijing.", "line one\nline two"]
QUERY = "What is the capital of China?"
MANY = [f"text number {number}" for number in range(50)]
"""Enough texts that scaling their vectors to unit length again would change bits of some."""


def test_vectors_are_quoits(embedder: Embedder) -> None:
    documents = QuoitEmbedder(EMBEDDER, options=OPTIONS)
    assert isinstance(documents, dspy.Embedder)
    assert np.array_equal(documents(TEXTS), embedder.encode_document(TEXTS))
    assert np.array_equal(documents(TEXTS[0]), embedder.encode_document(TEXTS[0]))
    assert documents([]).shape == (0, embedder.dim)
    queries = QuoitEmbedder(embedder, prompt="query", instruction="Find", dim=64)
    assert np.array_equal(queries([QUERY]), embedder.encode_query([QUERY], instruction="Find", dim=64))
    assert np.array_equal(asyncio.run(queries.acall(QUERY)), queries(QUERY))


def test_no_cache_mixes_prompts_up(embedder: Embedder) -> None:
    documents, queries = QuoitEmbedder(embedder), QuoitEmbedder(embedder, prompt="query")
    assert np.array_equal(documents([QUERY], caching=True), embedder.encode_document([QUERY]))
    assert np.array_equal(queries([QUERY], caching=True), embedder.encode_query([QUERY]))


def test_a_retriever_finds_the_answer_with_a_prompt_for_each_side(embedder: Embedder) -> None:
    retriever = QuoitRetriever(TEXTS, EMBEDDER, k=2, options=OPTIONS)
    found = retriever(QUERY)
    assert (found.passages[0], found.indices[0]) == (TEXTS[1], 1)
    assert np.array_equal(retriever.corpus_embeddings, embedder.encode_document(TEXTS))
    expected = embedder.encode_query([QUERY]) @ embedder.encode_document(TEXTS).T
    assert found.scores == pytest.approx(sorted(expected[0].tolist(), reverse=True)[:2], abs=1e-6)


def test_an_instruction_reaches_queries_alone(embedder: Embedder) -> None:
    retriever = QuoitRetriever(MANY, embedder, k=1, instruction="Find", dim=64)
    assert np.array_equal(retriever.corpus_embeddings, embedder.encode_document(MANY, dim=64))
    assert np.array_equal(retriever.embedder([QUERY]), embedder.encode_query([QUERY], instruction="Find", dim=64))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of DSPy's half-made copy
def test_a_program_answers_with_it_and_is_copied() -> None:
    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = QuoitEmbedder(EMBEDDER, prompt="query", options=OPTIONS)
            self.search = QuoitRetriever(TEXTS, EMBEDDER, k=1, options=OPTIONS)

        def forward(self, question: str) -> dspy.Prediction:
            return dspy.Prediction(answer=self.search(question).passages[0], vector=self.embed(question))

    program = Program()
    for each in (program, program.deepcopy()):
        assert each(question=QUERY).answer == TEXTS[1]


def test_saved_retrievers_and_pickles_answer_alike(tmp_path: Path) -> None:
    retriever = QuoitRetriever(TEXTS, EMBEDDER, k=1, options=OPTIONS)
    retriever.save(str(tmp_path))
    queries = QuoitEmbedder(EMBEDDER, prompt="query", options=OPTIONS)
    again = QuoitRetriever.from_saved(str(tmp_path), queries)
    assert again(QUERY).toDict() == retriever(QUERY).toDict()
    for copied in (pickle.loads(pickle.dumps(queries)), copy.deepcopy(queries)):
        assert np.array_equal(copied(QUERY), queries(QUERY))


def test_a_reranker_is_refused() -> None:
    with pytest.raises(TypeError, match="is a reranker"):
        QuoitRetriever(TEXTS, RERANKER, options=OPTIONS)


def test_the_example_finds_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("dspy"), {})
    assert "['The capital of China is Beijing.']" in capsys.readouterr().out
