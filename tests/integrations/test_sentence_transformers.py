"""Where a SentenceTransformer or a CrossEncoder is expected: the classes are real ones, and the bits are quoit's."""

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from quoit_integrations.sentence_transformers import QuoitCrossEncoder, QuoitSentenceTransformer
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import semantic_search

from quoit import Embedder, Reranker
from quoit.artifact import Artifact

PAGE = Path(__file__).parents[2] / "runtime" / "integrations" / "quoit-integrations" / "README.md"
TEXTS = ["The capital of China is Beijing.", "Gravity attracts two bodies.", "", "a longer text " * 40]
QUERY = "What is the capital of China?"


@pytest.fixture(scope="module")
def model(embedder: Embedder) -> QuoitSentenceTransformer:
    return QuoitSentenceTransformer(embedder)


def test_it_is_one_and_its_vectors_are_quoits(model: QuoitSentenceTransformer, embedder: Embedder) -> None:
    assert isinstance(model, SentenceTransformer)
    np.testing.assert_array_equal(model.encode(TEXTS), embedder.encode(TEXTS))
    np.testing.assert_array_equal(model.encode_document(TEXTS), embedder.encode_document(TEXTS))
    np.testing.assert_array_equal(model.encode_query(QUERY), embedder.encode_query(QUERY))
    np.testing.assert_array_equal(model.encode([QUERY], prompt_name="query")[0], embedder.encode_query(QUERY))
    np.testing.assert_array_equal(model.encode([QUERY], prompt="Query: ")[0], embedder.encode(f"Query: {QUERY}"))
    assert model.encode([]).shape == (0,)  # as SentenceTransformer answers nothing
    assert (model.get_embedding_dimension(), model.max_seq_length) == (embedder.dim, embedder.max_tokens)


def test_an_instruction_becomes_the_query_prompt(embedder: Embedder) -> None:
    model = QuoitSentenceTransformer(embedder, instruction="Find", truncate_dim=64)
    expected = embedder.encode_query(QUERY, instruction="Find")[:64]
    np.testing.assert_array_equal(model.encode_query(QUERY), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"normalize_embeddings": True, "truncate_dim": 64},
        {"precision": "ubinary"},
        {"batch_size": 1, "show_progress_bar": False},
    ],
    ids=str,
)
def test_results_have_sentence_transformers_types(
    model: QuoitSentenceTransformer, checkpoint_folder: Path, embedders: Any, options: dict[str, Any]
) -> None:
    """fp32 beside the real model; bits of ubinary may differ where a value is next to nothing."""
    mine = QuoitSentenceTransformer(embedders("fp32"))
    real = SentenceTransformer(str(checkpoint_folder), device="cpu", model_kwargs={"dtype": "float32"})
    found, expected = mine.encode(TEXTS, **options), real.encode(TEXTS, **options)
    assert type(found) is type(expected)
    if isinstance(expected, list):
        found, expected = torch.stack(found), torch.stack(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if "precision" not in options:
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=2e-6)


def test_all_texts_come_at_once(
    model: QuoitSentenceTransformer, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = embedder.encode

    def counted(texts: list[str], **options: Any) -> Any:
        seen.append(len(texts))
        return encode(texts, **options)

    monkeypatch.setattr(embedder, "encode", counted)
    model.encode([f"{number}" for number in range(100)], batch_size=8)
    assert seen == [100]


def test_what_asks_for_the_class_works(model: QuoitSentenceTransformer) -> None:
    documents: dict[str, Any] = {"a": TEXTS[0], "b": TEXTS[1]}
    queries: dict[str, Any] = {"q": QUERY}
    evaluator = InformationRetrievalEvaluator(queries, documents, {"q": {"a"}}, show_progress_bar=False)
    assert 0 <= evaluator(model)["cosine_ndcg@10"] <= 1
    hits = semantic_search(
        torch.from_numpy(model.encode_query([QUERY])), torch.from_numpy(model.encode(TEXTS)), top_k=2
    )
    assert len(hits[0]) == 2
    with pytest.raises(NotImplementedError, match="copy the artifact"):
        cast("Any", model[0]).save("somewhere")


def test_scores_are_quoits(reranker: Reranker) -> None:
    model = QuoitCrossEncoder(reranker)
    assert isinstance(model, CrossEncoder)
    pairs = [(QUERY, text) for text in TEXTS]
    logits = reranker.predict(pairs, activation="logit")
    np.testing.assert_array_equal(model.predict(pairs), torch.sigmoid(torch.from_numpy(logits)).numpy())
    np.testing.assert_array_equal(model.predict(pairs, activation_fn=torch.nn.Identity()), logits)
    ranking = model.rank(QUERY, TEXTS, top_k=2, return_documents=True)
    assert [each["corpus_id"] for each in ranking] == [each["index"] for each in reranker.rank(QUERY, TEXTS, top_k=2)]
    told = reranker.predict(pairs, instruction="Judge", activation="logit")
    found = QuoitCrossEncoder(reranker, instruction="Judge").predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_array_equal(found, told)
    np.testing.assert_array_equal(model.predict(pairs, prompt="Judge", activation_fn=torch.nn.Identity()), told)


def test_the_other_kind_is_refused(artifact: Artifact, rerank_artifact: Artifact) -> None:
    with pytest.raises(TypeError, match="is an embedding model; use QuoitSentenceTransformer"):
        QuoitCrossEncoder(str(artifact.folder), provider="cpu")
    with pytest.raises(TypeError, match="is a reranker; use QuoitCrossEncoder"):
        QuoitSentenceTransformer(str(rerank_artifact.folder), provider="cpu", precision="int8")


def test_the_example_runs(artifact: Artifact, rerank_artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [each for each in examples if "from quoit_integrations.sentence_transformers import" in each]
    for name, folder in (("embedding", artifact.folder), ("reranker", rerank_artifact.folder)):
        example = example.replace(f'"models/{name}-onnx"', repr(str(folder)))
    exec(example, {})
    assert capsys.readouterr().out.splitlines()[-1] in TEXTS
