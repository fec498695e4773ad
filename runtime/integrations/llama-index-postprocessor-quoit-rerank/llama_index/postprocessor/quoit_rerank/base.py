"""A reranker for LlamaIndex."""

from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from quoit import Reranker, shared

dispatcher = get_dispatcher(__name__)


class QuoitRerank(BaseNodePostprocessor):
    """Keeps the nodes that answer a query best, best first, with P(yes) as their scores.

    Attributes:
        model: folder of a rerank artifact, or a hub id.
        top_n: number of nodes that are kept.
        instruction: the task that nodes are judged by; None for the artifact's own.
        keep_retrieval_score: keep the score of retrieval as `retrieval_score` in the metadata.
        options: options of `quoit.Reranker`.
    """

    model: str
    top_n: int = 2
    instruction: str | None = None
    keep_retrieval_score: bool = False
    options: dict[str, Any] = Field(default_factory=dict)
    _reranker: Reranker | None = PrivateAttr(None)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that serialised settings have."""
        return "QuoitRerank"

    @property
    def reranker(self) -> Reranker:
        """The loaded model."""
        if self._reranker is None:
            found = shared(self.model, **self.options)
            if not isinstance(found, Reranker):
                raise TypeError(f"{self.model} is an embedding model; use QuoitEmbedding")
            self._reranker = found
        return self._reranker

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a ranking needs a query; pass query_bundle or query_str")
        if not nodes:
            return []
        query = query_bundle.query_str
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=self.top_n, model_name=self.model))
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        best = []
        for ranked in self.reranker.rank(query, texts, top_k=self.top_n, instruction=self.instruction):
            node = nodes[ranked["index"]]
            if self.keep_retrieval_score:
                node.node.metadata["retrieval_score"] = node.score
            best.append(NodeWithScore(node=node.node, score=ranked["score"]))
        dispatcher.event(ReRankEndEvent(nodes=best))
        return best
