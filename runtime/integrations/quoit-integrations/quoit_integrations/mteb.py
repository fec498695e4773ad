"""Evaluate an artifact by mteb: queries with the instruction of the task, documents with the document prompt."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from mteb.types import PromptType
from numpy.typing import NDArray

from quoit import Embedder, Reranker
from quoit.artifact.manifest import encode_manifest
from quoit.fingerprint import digest
from quoit_integrations.handles import Handle


class QuoitEncoder(AbsEncoder):
    """An encoder of a quoit artifact, which mteb evaluates.

        result = mteb.evaluate(QuoitEncoder("models/embedding-onnx"), mteb.get_task("NFCorpus"))

    Queries get mteb's instruction of the task, and so do the texts of tasks that have one kind of text, such as
    classification. This is how mteb runs Qwen3-Embedding itself. The model is loaded at the first use.
    """

    def __init__(
        self, model: str | Embedder, *, prompts: dict[str, str] | None = None, dim: int | None = None, **options: Any
    ) -> None:
        """Name a model, or take a loaded one.

        Args:
            model: folder of the artifact, a hub id, or a loaded model.
            prompts: instructions by name or type of the task, or "query", instead of mteb's own.
            dim: number of values that are kept of each vector; None for all.
            **options: options of `quoit.Embedder`.

        Raises:
            KeyError: mteb knows no task by a name of `prompts`.
        """
        self.handle, self.dim = Handle(Embedder, model, options), dim
        self.prompts_dict = self.validate_task_to_prompt_name(prompts)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb keeps results by: the model's name, the artifact's fingerprint, and what changes the vectors."""
        width = self.dim or self.handle.model.dim
        changes = {"dim": self.dim, "prompts": self.prompts_dict}
        return _meta(self.handle, changes, embed_dim=width, similarity_fn_name=ScoringFunction.COSINE)

    def encode(
        self,
        inputs: Iterable[dict[str, Any]],
        *,
        task_metadata: Any,
        prompt_type: PromptType | None = None,
        **given: Any,
    ) -> NDArray[Any]:
        """Return the vectors of the texts of batches, [n, dim] float32, or of the type that mteb names `precision`."""
        model, output = self.handle.model, {"dim": self.dim, "dtype": given.get("precision", "float32")}
        if prompt_type is PromptType.document:
            return model.encode_document(_texts(inputs), **output)
        instruction = self.get_instruction(task_metadata, prompt_type)
        if isinstance(instruction, dict):  # one text for each side, and a task that has one kind of text
            instruction = next(iter(instruction.values()))
        return model.encode_query(_texts(inputs), instruction=instruction or None, **output)


class QuoitCrossEncoder:
    """A cross-encoder of a rerank artifact, which mteb evaluates by P(yes) on reranking tasks.

    result = mteb.evaluate(QuoitCrossEncoder("models/reranker-onnx"), mteb.get_task("AskUbuntuDupQuestions"))
    """

    def __init__(self, model: str | Reranker, *, instruction: str | None = None, **options: Any) -> None:
        """Name a model, or take a loaded one.

        Args:
            model: folder of a rerank artifact, a hub id, or a loaded model.
            instruction: the task that documents are judged by; None for the artifact's own.
            **options: options of `quoit.Reranker`.
        """
        self.handle, self.instruction = Handle(Reranker, model, options), instruction

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb keeps results by: the model's name, the artifact's fingerprint, and what changes the scores."""
        return _meta(self.handle, {"instruction": self.instruction}, model_type=["cross-encoder"])

    def predict(
        self, inputs1: Iterable[dict[str, Any]], inputs2: Iterable[dict[str, Any]], **_: Any
    ) -> NDArray[np.float32]:
        """Return the scores of queries with the documents at their places, [n] float32."""
        pairs = list(zip(_texts(inputs1), _texts(inputs2), strict=True))
        return self.handle.model.predict(pairs, instruction=self.instruction)


def _texts(batches: Iterable[dict[str, Any]]) -> list[str]:
    return [text for batch in batches for text in batch["text"]]


def _meta(handle: Handle[Any], changes: dict[str, Any], **fields: Any) -> ModelMeta:
    model, changes = handle.model, {"max_tokens": handle.options.get("max_tokens"), **changes}
    artifact, precision = model.pipeline.artifact, model.pipeline.session.choice.precision
    overwrites = {
        "name": f"quoit/{artifact.manifest.source.id.rpartition('/')[2]}",
        "revision": digest(encode_manifest(artifact.manifest).decode()),
        "experiment_kwargs": {"precision": precision} | {name: of for name, of in changes.items() if of is not None},
        "max_tokens": model.max_tokens,
        "use_instructions": True,
        "framework": ["ONNX"],
    }
    return ModelMeta.create_empty(overwrites | fields)
