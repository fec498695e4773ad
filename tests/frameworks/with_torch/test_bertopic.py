"""BERTopic: a whole fit tells fonts from statistics, and puts unseen descriptions among their like."""

from pathlib import Path

import numpy as np
from bertopic import BERTopic
from hdbscan import HDBSCAN
from quoit_integrations.sentence_transformers import QuoitSentenceTransformer
from umap import UMAP

from frameworks.with_torch.held_out import documents
from quoit import Embedder

UNSEEN = 5


def test_topics_part_the_texts_and_a_saved_fit_gives_the_same(
    model: QuoitSentenceTransformer, embedder: Embedder, tmp_path: Path
) -> None:
    fonts, statistics = documents("fonts-"), documents("r-")[:40]
    texts, first = fonts[UNSEEN:] + statistics[UNSEEN:], len(fonts) - UNSEEN
    topics = BERTopic(
        embedding_model=model,
        umap_model=UMAP(n_neighbors=15, n_components=5, min_dist=0, metric="cosine", random_state=7),
        hdbscan_model=HDBSCAN(min_cluster_size=10, prediction_data=True),
    )
    found = np.array(topics.fit_transform(texts)[0])
    np.testing.assert_array_equal(topics._extract_embeddings(texts), embedder.encode(texts))
    font, statistic = np.bincount(found[:first] + 1).argmax() - 1, np.bincount(found[first:] + 1).argmax() - 1
    assert font != statistic
    assert np.mean(found == [font] * first + [statistic] * (len(texts) - first)) > 0.9
    assert "font" in {word for word, _ in topics.get_topic(font)}
    unseen = fonts[:UNSEEN] + statistics[:UNSEEN]
    put = topics.transform(unseen)[0]
    assert list(put) == [font] * UNSEEN + [statistic] * UNSEEN
    topics.save(tmp_path / "topics", serialization="safetensors", save_ctfidf=True, save_embedding_model=False)
    again = BERTopic.load(tmp_path / "topics", embedding_model=model)
    assert list(again.transform(unseen)[0]) == list(put)
