"""A SentenceTransformer and a CrossEncoder that run on quoit, for libraries that ask for one by its class.

Vectors and scores are quoit's. All else is sentence-transformers' own: types of results, prompts by name, precisions,
similarity, evaluators. The models have no parameters, so they cannot be trained.
"""

from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import InputModule

from quoit import Embedder, Reranker, shared

WHOLE = 1 << 30
"""Batch size with which sentence-transformers hands over all texts at once; quoit forms batches by tokens."""


class QuoitModule(InputModule):
    """Embeds texts by quoit: the only module of a `QuoitSentenceTransformer`."""

    def __init__(self, embedder: Embedder) -> None:
        """Take a loaded model."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.embedder = embedder
        self.tokenizer = embedder.pipeline.tokenizer.tokenizer

    @property
    def max_seq_length(self) -> int:
        """Number of tokens that texts are cut to."""
        return self.embedder.max_tokens

    def get_embedding_dimension(self) -> int:
        """Return the number of values of a vector."""
        return self.embedder.dim

    def preprocess(self, inputs: Any, prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Return the texts with their prompt; tokens are quoit's business."""
        return {"texts": list(inputs), "prompt": prompt or ""}

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add the vectors of the texts, [n, dim]."""
        vectors = self.embedder.encode(features["texts"], prompt=features["prompt"])
        return features | {"sentence_embedding": torch.from_numpy(vectors)}

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Refuse to be saved: the artifact is the saved model."""
        raise NotImplementedError(f"copy the artifact {self.embedder.pipeline.artifact.folder} instead")


class QuoitSentenceTransformer(SentenceTransformer):
    """A SentenceTransformer whose vectors are quoit's.

    model = QuoitSentenceTransformer("models/embedding-onnx")
    """

    def __init__(
        self, model: str | Embedder, *, instruction: str | None = None, truncate_dim: int | None = None, **options: Any
    ) -> None:
        """Load a model, once a process for equal options, or take a loaded one.

        Args:
            model: folder of the artifact, a hub id, or a loaded model.
            instruction: task of the query prompt, instead of the checkpoint's prompt.
            truncate_dim: number of values that are kept of each vector; None for all.
            **options: options of `quoit.Embedder`.

        Raises:
            TypeError: the model is a reranker.
        """
        found = shared(model, **options) if isinstance(model, str) else model
        if not isinstance(found, Embedder):
            raise TypeError(f"{model} is a reranker; use QuoitCrossEncoder")
        prompts = {"query": "", "document": ""} | found.prompts | {"query": found.query_prompt(instruction)}
        super().__init__(
            modules=[QuoitModule(found)],
            device="cpu",
            prompts=prompts,
            default_prompt_name=found.contract.default_prompt_name,
            truncate_dim=truncate_dim,
        )

    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = WHOLE,  # noqa: ARG002  sentence-transformers' own name
        *arguments: Any,
        **options: Any,
    ) -> Any:
        """Return vectors as SentenceTransformer does; `batch_size` has no effect."""
        return super().encode(inputs, prompt_name, prompt, WHOLE, *arguments, **options)


class QuoitScores(InputModule):
    """Scores pairs by quoit: the only module of a `QuoitCrossEncoder`."""

    def __init__(self, reranker: Reranker, instruction: str | None) -> None:
        """Take a loaded model, and the task that documents are judged by."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.reranker, self.instruction = reranker, instruction
        self.tokenizer = reranker.pipeline.tokenizer.tokenizer

    @property
    def max_seq_length(self) -> int:
        """Number of tokens that pairs are cut to."""
        return self.reranker.max_tokens

    def preprocess(self, inputs: Any, prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Return the pairs, and the instruction: a prompt of CrossEncoder is one."""
        return {"pairs": [tuple(pair) for pair in inputs], "instruction": prompt or self.instruction}

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add the logits of the pairs, [n, 1]."""
        logits = self.reranker.predict(features["pairs"], instruction=features["instruction"], activation="logit")
        return features | {"scores": torch.from_numpy(logits.reshape(-1, 1))}

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Refuse to be saved: the artifact is the saved model."""
        raise NotImplementedError(f"copy the artifact {self.reranker.pipeline.artifact.folder} instead")


class QuoitCrossEncoder(CrossEncoder):
    """A CrossEncoder whose scores are quoit's: P(yes), as CrossEncoder's sigmoid makes it of the logit.

    model = QuoitCrossEncoder("models/reranker-onnx")
    """

    def __init__(self, model: str | Reranker, *, instruction: str | None = None, **options: Any) -> None:
        """Load a model, once a process for equal options, or take a loaded one.

        Args:
            model: folder of a rerank artifact, a hub id, or a loaded model.
            instruction: the task that documents are judged by; None for the artifact's own.
            **options: options of `quoit.Reranker`.

        Raises:
            TypeError: the model is for embedding.
        """
        found = shared(model, **options) if isinstance(model, str) else model
        if not isinstance(found, Reranker):
            raise TypeError(f"{model} is an embedding model; use QuoitSentenceTransformer")
        super().__init__(modules=[QuoitScores(found, instruction)], device="cpu", activation_fn=torch.nn.Sigmoid())

    def predict(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = WHOLE,  # noqa: ARG002  sentence-transformers' own name
        *arguments: Any,
        **options: Any,
    ) -> Any:
        """Return scores as CrossEncoder does; `batch_size` has no effect, and a prompt is an instruction."""
        return super().predict(inputs, prompt_name, prompt, WHOLE, *arguments, **options)
