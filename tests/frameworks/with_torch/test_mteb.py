"""mteb evaluates quoit's models without a network: its own small tasks, and held-out pairs of this repository."""

import pickle
from types import SimpleNamespace
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb import TaskMetadata
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.mocks.mock_tasks import (
    MockBitextMiningTask,
    MockClassificationTask,
    MockPairClassificationTask,
    MockRerankingTask,
    MockRetrievalTask,
    MockSTSTask,
)
from mteb.models import CrossEncoderProtocol, EncoderProtocol
from mteb.models.instruct_wrapper import InstructSentenceTransformerModel
from mteb.models.model_implementations.qwen3_models import instruction_template
from mteb.types import PromptType
from quoit_integrations.mteb import QuoitCrossEncoder, QuoitEncoder
from quoit_integrations.sentence_transformers import QuoitSentenceTransformer

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from frameworks.with_torch import held_out
from quoit import Embedder, Reranker

TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies.", ""]
QUERIES = ["What is the capital of China?", "What is gravity?"]
PAIRS = held_out.PAIRS[:200]
RERANKED = 40
"""Number of queries that the reranker gets."""
INSTRUCTION = "Retrieve text based on user query."
"""mteb's instruction of retrieval tasks."""


class HeldOutTask(AbsTaskRetrieval):
    """Package descriptions by their summaries."""

    metadata = TaskMetadata(
        name="QuoitHeldOut",
        description="Package descriptions by their summaries.",
        dataset={"path": "local", "revision": "1"},
        reference=None,
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def load_data(self, **_: Any) -> None:
        number = range(len(PAIRS))
        split = RetrievalSplitData(
            queries=Dataset.from_list([{"id": f"q{n}", "text": PAIRS[n]["query"]} for n in number]),
            corpus=Dataset.from_list([{"id": f"d{n}", "text": PAIRS[n]["document"], "title": ""} for n in number]),
            relevant_docs={f"q{n}": {f"d{n}": 1} for n in number},
            top_ranked=None,
        )
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class HeldOutRerankingTask(HeldOutTask):
    """The description of a package among four others."""

    metadata = HeldOutTask.metadata.model_copy(update={"name": "QuoitHeldOutReranking", "type": "Reranking"})

    def load_data(self, **_: Any) -> None:
        super().load_data()
        split = self.dataset["default"]["test"]
        split["queries"] = split["queries"].select(range(RERANKED))
        split["relevant_docs"] = {f"q{n}": {f"d{n}": 1} for n in range(RERANKED)}
        split["top_ranked"] = {f"q{n}": candidates(n) for n in range(RERANKED)}


def candidates(number: int) -> list[str]:
    return [f"d{(number + step) % len(PAIRS)}" for step in (7, 0, 23, 51, 90)]


def evaluate(model: Any, task: Any) -> dict[str, Any]:
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    (scores,) = result.task_results[0].scores["test"]
    return dict(scores)


def numbers(scores: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def batches(texts: list[str]) -> list[dict[str, list[str]]]:
    return [{"text": texts[:1]}, {"text": texts[1:]}]


def encode(encoder: QuoitEncoder, texts: list[str], task: Any, prompt_type: PromptType | None, **more: Any) -> Any:
    metadata = getattr(task, "metadata", task)
    return encoder.encode(
        batches(texts), task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=prompt_type, **more
    )


@pytest.fixture(scope="module")
def encoder(embedder: Embedder) -> QuoitEncoder:
    return QuoitEncoder(embedder)


def test_vectors_are_quoits(encoder: QuoitEncoder, embedder: Embedder) -> None:
    assert isinstance(encoder, EncoderProtocol)
    documents = encode(encoder, TEXTS, MockRetrievalTask, PromptType.document)
    np.testing.assert_array_equal(documents, embedder.encode_document(TEXTS))
    queries = encode(encoder, QUERIES, MockRetrievalTask, PromptType.query)
    np.testing.assert_array_equal(queries, embedder.encode_query(QUERIES, instruction=INSTRUCTION))
    symmetric = encode(encoder, TEXTS, MockSTSTask, None)
    expected = embedder.encode_query(TEXTS, instruction="Retrieve semantically similar text.")
    np.testing.assert_array_equal(symmetric, expected)
    assert encode(encoder, [], MockSTSTask, None).shape == (0, embedder.dim)
    binary = encode(encoder, TEXTS, MockRetrievalTask, PromptType.document, precision="binary")
    np.testing.assert_array_equal(binary, embedder.encode_document(TEXTS, dtype="binary"))


def test_instructions_come_from_the_task_or_from_the_caller(embedder: Embedder) -> None:
    task = SimpleNamespace(name="MockSTSTask", type="STS", prompt={"query": "Find", "document": "Other"})
    for prompt_type in (PromptType.query, None):
        found = encode(QuoitEncoder(embedder), QUERIES, task, prompt_type)
        np.testing.assert_array_equal(found, embedder.encode_query(QUERIES, instruction="Find"))
    ours = QuoitEncoder(embedder, prompts={"STS": "Compare"}, dim=64)
    expected = embedder.encode_query(QUERIES, instruction="Compare", dim=64)
    np.testing.assert_array_equal(encode(ours, QUERIES, MockSTSTask, None), expected)
    with pytest.warns(UserWarning, match="absent"), pytest.raises(KeyError, match="absent"):
        QuoitEncoder(embedder, prompts={"absent": "Compare"})


@pytest.mark.parametrize(
    "task",
    [
        MockRetrievalTask,
        MockSTSTask,
        MockClassificationTask,
        MockRerankingTask,
        MockPairClassificationTask,
        MockBitextMiningTask,
    ],
)
def test_mtebs_small_tasks_score_as_by_mtebs_own_qwen3(
    encoder: QuoitEncoder, embedder: Embedder, monkeypatch: pytest.MonkeyPatch, task: type[Any]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sentence_transformers.SentenceTransformer", lambda *_, **__: QuoitSentenceTransformer(embedder))
        theirs = InstructSentenceTransformerModel(
            "Qwen/Qwen3-Embedding-0.6B",
            "main",
            instruction_template=instruction_template,
            apply_instruction_to_passages=False,
        )
    expected, found = evaluate(theirs, task()), evaluate(encoder, task())
    assert found["main_score"] > 0
    assert numbers(found) == pytest.approx(numbers(expected), nan_ok=True)


def test_a_local_task_scores_what_quoits_vectors_score(encoder: QuoitEncoder, embedder: Embedder) -> None:
    queries = embedder.encode_query([pair["query"] for pair in PAIRS], instruction=INSTRUCTION)
    documents = embedder.encode_document([pair["document"] for pair in PAIRS])
    first = np.mean(np.argmax(queries @ documents.T, axis=1) == np.arange(len(PAIRS)))
    scores = evaluate(encoder, HeldOutTask())
    assert scores["recall_at_1"] == pytest.approx(first, abs=1e-5)
    assert scores["ndcg_at_10"] > 0.8


def test_a_cross_encoder_scores_what_quoits_ranking_scores(reranker: Reranker) -> None:
    model = QuoitCrossEncoder(reranker)
    assert isinstance(model, CrossEncoderProtocol)
    best = 0
    for number, pair in enumerate(PAIRS[:RERANKED]):
        names = candidates(number)
        ranking = reranker.rank(pair["query"], [PAIRS[int(name[1:])]["document"] for name in names], top_k=1)
        best += names[ranking[0]["index"]] == f"d{number}"
    scores = evaluate(model, HeldOutRerankingTask())
    assert scores["recall_at_1"] == pytest.approx(best / RERANKED, abs=1e-5)
    assert best / RERANKED > 0.8


def test_scores_of_pairs_are_quoits(reranker: Reranker) -> None:
    pairs = list(zip(QUERIES, TEXTS[:2], strict=True))
    model = QuoitCrossEncoder(RERANKER, instruction="Find", **OPTIONS)
    found = model.predict(batches(QUERIES), batches(TEXTS[:2]), task_metadata=MockRerankingTask.metadata)
    np.testing.assert_array_equal(found, reranker.predict(pairs, instruction="Find"))
    assert model.predict([], []).shape == (0,)


def test_results_are_kept_by_artifact_precision_and_settings(
    encoder: QuoitEncoder, embedder: Embedder, reranker: Reranker
) -> None:
    meta, artifact = encoder.mteb_model_meta, embedder.pipeline.artifact
    assert meta.name == f"quoit/{artifact.manifest.source.id.rpartition('/')[2]}"
    assert meta.embed_dim == embedder.dim
    assert meta.experiment_kwargs == {"precision": embedder.pipeline.session.choice.precision}
    others = [
        QuoitEncoder(EMBEDDER, precision="fp32", **OPTIONS),
        QuoitEncoder(embedder, dim=64),
        QuoitEncoder(EMBEDDER, max_tokens=64, **OPTIONS),
        QuoitEncoder(embedder, prompts={"STS": "Compare"}),
    ]
    names = {other.mteb_model_meta.model_name_with_experiment for other in others}
    assert {other.mteb_model_meta.revision for other in others} == {meta.revision}
    assert len(names) == 4
    assert QuoitCrossEncoder(reranker).mteb_model_meta.revision != meta.revision


def test_pickles_share_the_model(embedder: Embedder) -> None:
    first = QuoitEncoder(EMBEDDER, dim=64, **OPTIONS)
    again = pickle.loads(pickle.dumps(first))
    assert again.handle.model is first.handle.model
    assert again.mteb_model_meta == first.mteb_model_meta


def test_a_model_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="is a reranker; this class takes an embedding model"):
        evaluate(QuoitEncoder(RERANKER, **OPTIONS), MockSTSTask())
    with pytest.raises(TypeError, match="is an embedding model; this class takes a reranker"):
        evaluate(QuoitCrossEncoder(EMBEDDER, **OPTIONS), MockRerankingTask())


def test_the_example_of_the_page_gives_a_score(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("mteb"), {})
    assert 0 < float(capsys.readouterr().out.splitlines()[-1]) <= 1
