"""Spark: columns of vectors are quoit's in each worker, null stays null, and a query finds its row."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.errors import PythonException
from pyspark.sql import Column, DataFrame, SparkSession
from quoit_integrations.spark import embed_udf, task_options

from frameworks.harness import EMBEDDER, OPTIONS, RERANKER, example_of
from quoit import Embedder

TEXTS = ["Gravity attracts two bodies.", None, "The capital of China is Beijing.", "line one\nline two", ""]
QUERY = "What is the capital of China?"


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", 2).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def table(spark: SparkSession, texts: list[str | None]) -> DataFrame:
    return spark.createDataFrame([(number, text) for number, text in enumerate(texts)], "id int, text string")


def vectors(frame: DataFrame, column: Column) -> list[Any]:
    rows = frame.select("id", column.alias("vector")).collect()
    return [row.vector and np.array(row.vector, np.float32) for row in sorted(rows)]


def equal(found: list[Any], expected: Sequence[np.ndarray | None]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(a is None if b is None else a is not None and np.array_equal(a, b) for a, b in pairs)


def test_vectors_are_quoits_and_null_stays_null(spark: SparkSession, embedder: Embedder) -> None:
    expected = [None if text is None else embedder.encode_document(text) for text in TEXTS]
    frame = table(spark, TEXTS)
    assert equal(vectors(frame, embed_udf(EMBEDDER, options=OPTIONS)("text")), expected)
    assert equal(vectors(frame, embed_udf(embedder, batch_size=2)(frame["text"])), expected)
    assert vectors(table(spark, [None, None]), embed_udf(EMBEDDER, options=OPTIONS)("text")) == [None, None]
    assert vectors(frame.where("id < 0"), embed_udf(EMBEDDER, options=OPTIONS)("text")) == []
    kind = frame.select(embed_udf(EMBEDDER)("text").alias("vector")).schema["vector"].dataType.simpleString()
    assert kind == "array<float>"


def test_prompts_and_dimensions_are_chosen(spark: SparkSession, embedder: Embedder) -> None:
    embed = embed_udf(EMBEDDER, prompt="query", instruction="Find", dim=64, options=OPTIONS)
    expected = [embedder.encode_query(QUERY, instruction="Find", dim=64)]
    assert equal(vectors(table(spark, [QUERY]), embed("text")), expected)


def test_a_query_finds_its_row_in_a_file(spark: SparkSession, tmp_path: Path) -> None:
    table(spark, TEXTS).withColumn("vector", embed_udf(EMBEDDER, options=OPTIONS)("text")).write.parquet(
        str(tmp_path / "vectors")
    )
    (query,) = vectors(table(spark, [QUERY]), embed_udf(EMBEDDER, prompt="query", options=OPTIONS)("text"))
    read = spark.read.parquet(str(tmp_path / "vectors"))
    assert [row.id for row in read.where("vector is null").collect()] == [1]
    rows = read.where("vector is not null").collect()
    assert max(rows, key=lambda row: float(np.dot(row.vector, query))).text == TEXTS[2]


def test_workers_take_the_threads_of_a_task(spark: SparkSession) -> None:
    def in_task(options: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = spark_context.parallelize([options], 1).map(task_options).first()
        return found

    spark_context = spark.sparkContext
    assert in_task(OPTIONS) == {**OPTIONS, "threads": 1}
    assert in_task({"threads": 2}) == {"threads": 2}
    assert task_options(OPTIONS) == OPTIONS


def test_what_cannot_be_meant_is_refused(spark: SparkSession) -> None:
    with pytest.raises(PythonException, match="is a reranker; this class takes an embedding model"):
        vectors(table(spark, TEXTS), embed_udf(RERANKER, options=OPTIONS)("text"))
    with pytest.raises(ValueError, match="prompt is 'passage'"):
        embed_udf(EMBEDDER, prompt="passage")  # type: ignore[arg-type]


def test_the_example_finds_the_answer(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    exec(example_of("spark"), {})
    assert capsys.readouterr().out.endswith("The capital of China is Beijing.\n")
