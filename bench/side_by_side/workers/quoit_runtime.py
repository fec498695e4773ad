"""quoit itself: `Embedder` and `Reranker` as the README shows them."""

from typing import Any

from bench.side_by_side.workers.protocol import Vectors


class Quoit:
    def __init__(self, model: Any) -> None:
        self.model = model

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        vectors: Vectors = self.model.encode_query(texts) if query else self.model.encode_document(texts)
        return vectors

    def score(self, query: str, documents: list[str]) -> Vectors:
        scores: Vectors = self.model.predict([(query, document) for document in documents])
        return scores


def load(config: dict[str, Any]) -> Quoit:
    """Config: `model`, `threads`, `task`, `precision`, and `workers`, batches at a time."""
    from quoit import Embedder, Reranker

    kind = Embedder if config["task"] == "embedding" else Reranker
    workers = config["threads"] if config.get("workers") else 1
    options = {"precision": config["precision"], "provider": "cpu", "threads": config["threads"], "workers": workers}
    return Quoit(kind(config["model"], **options))
