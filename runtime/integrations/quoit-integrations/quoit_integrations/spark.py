"""Columns of vectors for Spark: texts get the document prompt, or the one that `prompt` names; null stays null."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pyspark import TaskContext
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column
from pyspark.sql.functions import col, when
from pyspark.sql.types import ArrayType, FloatType

from quoit import Embedder
from quoit.engine.pooling import Vectors
from quoit.text.prompts import is_missing
from quoit_integrations.handles import LazyEmbedder, PromptName


def embed_udf(
    model: str | Path | Embedder,
    *,
    prompt: PromptName = "document",
    instruction: str | None = None,
    dim: int | None = None,
    options: Mapping[str, Any] | None = None,
    batch_size: int = 1024,
) -> Callable[[Column | str], Column]:
    """Return a function from a column of texts to a column of vectors, of `array<float>`.

        frame.withColumn("vector", embed_udf("models/embedding-onnx")("text"))

    Each Python worker loads the model once, and runs it on `spark.task.cpus` threads unless `threads` is among the
    options. The artifact must be at the same path on each machine.

    Args:
        model: as in `LazyEmbedder`, as are `prompt`, `instruction` and `dim`.
        prompt: name of the prompt before each text.
        instruction: task of the query prompt.
        dim: number of values that are kept of each vector.
        options: options of `quoit.Embedder`.
        batch_size: number of texts in one call of the model; a task gets them in Arrow batches of
            `spark.sql.execution.arrow.maxRecordsPerBatch`.
    """
    lazy = LazyEmbedder(model, prompt=prompt, instruction=instruction, dim=dim, options=options)

    def load() -> Callable[[np.ndarray], Vectors]:
        ready = lazy.with_options(task_options(lazy.options))

        def predict(texts: np.ndarray) -> Vectors:
            missing = np.array([is_missing(text) for text in texts])
            rows = np.zeros((len(texts), ready.dim), np.float32)
            rows[~missing] = ready.encode(list(texts[~missing]))
            return rows

        return predict

    vectors = predict_batch_udf(load, return_type=ArrayType(FloatType()), batch_size=batch_size)

    def embed(column: Column | str) -> Column:
        texts = col(column) if isinstance(column, str) else column
        return when(texts.isNotNull(), vectors(texts))

    return embed


def task_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the number of threads of this task, unless a number is given or this is no task."""
    context = TaskContext.get()
    if context is None or options.get("threads") is not None:
        return dict(options)
    return {**options, "threads": context.cpus()}
