"""BERTopic: a whole fit finds the themes, and puts an unseen text among its like."""

from collections import Counter
from pathlib import Path

import numpy as np
from bertopic import BERTopic
from hdbscan import HDBSCAN
from quoit_integrations.sentence_transformers import QuoitSentenceTransformer
from umap import UMAP

from frameworks.with_torch.themes import LABELS, TEXTS, UNSEEN
from quoit import Embedder

TIMES = ("", "Today: ", "Note: ", "I read that ")


def test_topics_are_the_themes_and_a_saved_fit_gives_the_same(
    model: QuoitSentenceTransformer, embedder: Embedder, tmp_path: Path
) -> None:
    texts, labels = [time + text for time in TIMES for text in TEXTS], LABELS * len(TIMES)
    umap = UMAP(n_neighbors=8, n_components=5, metric="cosine", random_state=7)
    topics = BERTopic(
        embedding_model=model,
        umap_model=umap,
        hdbscan_model=HDBSCAN(min_cluster_size=10, prediction_data=True),
    )
    found, _ = topics.fit_transform(texts)
    np.testing.assert_array_equal(topics._extract_embeddings(texts), embedder.encode(texts))
    pairs = Counter(zip(labels, found, strict=True))
    main = {theme: max((count, topic) for (name, topic), count in pairs.items() if name == theme)[1] for theme in UNSEEN}
    assert len(set(main.values())) == 4
    assert sum(pairs[theme, topic] for theme, topic in main.items()) >= 0.7 * len(texts)
    unseen = topics.transform(list(UNSEEN.values()))[0]
    assert list(unseen) == [main[theme] for theme in UNSEEN]
    topics.save(tmp_path / "topics", serialization="safetensors", save_ctfidf=True, save_embedding_model=False)
    again = BERTopic.load(tmp_path / "topics", embedding_model=model)
    assert list(again.transform(list(UNSEEN.values()))[0]) == list(unseen)
