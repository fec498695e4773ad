"""sentence-transformers' evaluators and utilities: scores are those of quoit's vectors and rankings."""

import re
from typing import Any

import numpy as np
import pytest
from quoit_integrations.sentence_transformers import QuoitCrossEncoder, QuoitSentenceTransformer
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import semantic_search

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from frameworks.with_torch.themes import LABELS, TEXTS, UNSEEN
from quoit import Embedder, Reranker


def test_the_retrieval_evaluator_scores_what_quoits_vectors_score(
    model: QuoitSentenceTransformer, embedder: Embedder
) -> None:
    relevant = {theme: {str(n) for n, label in enumerate(LABELS) if label == theme} for theme in UNSEEN}
    corpus: dict[str, Any] = {str(number): text for number, text in enumerate(TEXTS)}
    queries: dict[str, Any] = dict(UNSEEN)
    evaluator = InformationRetrievalEvaluator(queries, corpus, relevant, name="themes", write_csv=False)
    scores = evaluator(model)
    cosines = embedder.encode_query(list(UNSEEN.values())) @ embedder.encode_document(TEXTS).T
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :5]
    right = np.mean([LABELS[n] == theme for theme, row in zip(UNSEEN, best, strict=True) for n in row])
    assert scores["themes_cosine_precision@5"] == pytest.approx(right)
    assert right > 0.6


def test_the_reranking_evaluator_scores_what_quoits_ranking_scores(reranker: Reranker) -> None:
    model = QuoitCrossEncoder(reranker)
    samples: list[dict[str, Any]] = [
        {
            "query": query,
            "positive": [text for text, label in zip(TEXTS, LABELS, strict=True) if label == theme],
            "negative": [text for text, label in zip(TEXTS, LABELS, strict=True) if label != theme],
        }
        for theme, query in UNSEEN.items()
    ]
    scores = CrossEncoderRerankingEvaluator(samples, name="themes", write_csv=False, at_k=1)(model)
    firsts = [reranker.rank(query, TEXTS, top_k=1)[0]["index"] for query in UNSEEN.values()]
    right = np.mean([LABELS[first] == theme for first, theme in zip(firsts, UNSEEN, strict=True)])
    assert scores["themes_mrr@1"] == pytest.approx(right)
    assert right > 0


def test_search_finds_the_theme(model: QuoitSentenceTransformer, embedder: Embedder) -> None:
    queries = model.encode_query(list(UNSEEN.values()), convert_to_tensor=True)
    np.testing.assert_array_equal(queries.numpy(), embedder.encode_query(list(UNSEEN.values())))
    hits = semantic_search(queries, model.encode_document(TEXTS, convert_to_tensor=True), top_k=1)
    assert [LABELS[int(hit[0]["corpus_id"])] for hit in hits] == list(UNSEEN)


def test_models_of_the_other_kind_are_refused() -> None:
    with pytest.raises(TypeError, match=f"{re.escape(RERANKER)} is a reranker; use QuoitCrossEncoder"):
        QuoitSentenceTransformer(RERANKER, **OPTIONS)
    with pytest.raises(TypeError, match=f"{re.escape(EMBEDDER)} is an embedding model; use QuoitSentenceTransformer"):
        QuoitCrossEncoder(EMBEDDER, **OPTIONS)


def test_the_example_of_the_page_finds_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("sentence_transformers"), {})
    assert "The capital of China is Beijing." in capsys.readouterr().out
