"""SetFit: a head on quoit's vectors tells themes apart, and the head is saved without the model."""

import pickle

import numpy as np
import pytest
from quoit_integrations.sentence_transformers import QuoitSentenceTransformer
from setfit import SetFitModel
from sklearn.linear_model import LogisticRegression

from frameworks.with_torch.themes import LABELS, TEXTS, UNSEEN
from quoit import Embedder


def test_a_head_tells_themes_apart(model: QuoitSentenceTransformer, embedder: Embedder) -> None:
    classifier = SetFitModel(model_body=model, model_head=LogisticRegression())
    classifier.fit(TEXTS, LABELS, num_epochs=1)
    assert list(classifier.predict(list(UNSEEN.values()))) == list(UNSEEN)
    expected = LogisticRegression().fit(embedder.encode(TEXTS), LABELS)
    np.testing.assert_array_equal(classifier.model_head.coef_, expected.coef_)
    head = pickle.loads(pickle.dumps(classifier.model_head))
    again = SetFitModel(model_body=model, model_head=head)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))


def test_the_body_cannot_be_saved(model: QuoitSentenceTransformer, tmp_path: object) -> None:
    classifier = SetFitModel(model_body=model, model_head=LogisticRegression().fit(model.encode(TEXTS), LABELS))
    with pytest.raises(NotImplementedError, match="copy the artifact"):
        classifier.save_pretrained(str(tmp_path))
