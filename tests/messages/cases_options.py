"""Errors of options, in Python and on the command line."""

import sys
from typing import Any, cast

import numpy as np
import pyarrow as pa

import quoit
import quoit.cli.main
from messages.harness import Case, Command, Trigger, World
from messages.triggers import encode, load, predict, rank_arguments
from quoit import InputError, calibration_ranges
from quoit.arrow import embed as embed_column


def version_of_sources(world: World) -> object:
    world.patch.setattr(sys, "path", [])  # no distribution is found
    return quoit.__version__


def in_arrow(column: object) -> Trigger:
    return lambda world: embed_column(world.embedder(), column)


def without_pyarrow(world: World) -> object:
    embedder = world.embedder()
    world.patch.setitem(sys.modules, "pyarrow", cast("Any", None))
    return embed_column(embedder, [])


def falling_ranges(world: World) -> object:
    embedder = world.embedder()
    ranges = calibration_ranges(embedder.encode(["a", "b"]))
    ranges[:, 7] = ranges[::-1, 7]
    return embedder.encode("a", dtype="int8", ranges=ranges)


def embed_with_ranges(world: World) -> list[str]:
    texts, ranges, output = world.write("texts.txt", "a\n"), world.write("ranges.npy", "no"), world.folder / "out.npy"
    artifact = str(world.sources.artifact)
    return ["embed", texts, "-o", str(output), "-m", artifact, "--dtype", "int8", "--ranges", ranges]


def search_with_a_file_as_cache(world: World) -> list[str]:
    return rank_arguments("--cache", world.write("cache", ""))(world)


def search_without_a_model(world: World) -> list[str]:
    world.patch.delenv("QUOIT_MODEL", raising=False)
    return ["similarity", "query", world.write("texts.txt", "a\n")]


CASES = [
    Case("an unknown type of vectors", encode("a", dtype="int4"), InputError, "'int4'", "choose one of float32"),
    Case("no dimensions", encode("a", dim=0), InputError, "dim 0 ", "a whole number from 32 to 96"),
    Case("more dimensions than there are", encode("a", dim=97), InputError, "dim 97 ", "a whole number from 32 to 96"),
    Case("int8 without ranges", encode("a", dtype="int8"), InputError, "'int8'", "ranges=calibration_ranges(sample)"),
    Case(
        "ranges that are words",
        encode("a", dtype="int8", ranges=["low", "high"]),
        InputError,
        "'low'",
        "calibration_ranges(sample)",
    ),
    Case(
        "ranges of other dimensions",
        encode("a", dtype="int8", ranges=np.zeros((2, 3))),
        InputError,
        "(2, 3)",
        "calibration_ranges(sample)",
    ),
    Case("a range that falls", falling_ranges, InputError, "dimension 7", "calibration_ranges(sample)"),
    Case("an unknown activation", predict(activation="softmax"), InputError, "'softmax'", "choose one of sigmoid"),
    Case(
        "the best none",
        lambda world: world.reranker().rank("query", ["a"], top_k=0),
        InputError,
        "top_k 0 ",
        "a whole number from 1 on, or None for all",
    ),
    Case("an option of another library", encode("a", output_dim=8), TypeError, "'output_dim'", "use dim="),
    Case("an option by both names", encode("a", dim=40, truncate_dim=40), TypeError, "truncate_dim=", "leave out"),
    Case("a prompt that there is not", encode("a", prompt_name="no"), InputError, "prompt 'no'", "prompt= takes"),
    Case("a list for a column", in_arrow(["a"]), InputError, "column is list", "pass pyarrow.array(texts)"),
    Case("a column of numbers", in_arrow(pa.array([1])), InputError, "of int64", "cast it to string"),
    Case("no pyarrow", without_pyarrow, InputError, "pyarrow is not installed", "pip install 'quoit[parquet]'"),
    Case("an option of the other method", encode("a", threads=1), TypeError, "'threads'", "threads= of Embedder()"),
    Case("an option that nothing has", predict(colour=1), TypeError, "'colour'", "it takes instruction, separator"),
    Case("an option with a slip of the pen", load(precison="fp32"), TypeError, "'precison'", "use precision="),
    Case("neither true nor false", encode("a", normalize=None), TypeError, "NoneType None", "make it True or False"),
    Case("CUDA graphs by number", load(cuda_graphs=1), TypeError, "cuda_graphs is int 1", "make it True or False"),
    Case("numpy's float64", encode("a", dtype=np.float64), InputError, "numpy.float64", "choose one of float32"),
    Case("a name that quoit has not", lambda _: cast("Any", quoit).Encoder, AttributeError, "'Encoder'", "Embedder"),
    Case(
        "a version of sources alone", version_of_sources, AttributeError, "quoit is not installed", "`pip install` it"
    ),
    Case("no threads", load(threads=0), InputError, "threads 0 ", "a whole number from 1 to 1024"),
    Case("CUDA graphs on a CPU", load(cuda_graphs=True), InputError, "cuda_graphs True ", "leave it out, or use"),
    Case("more workers than threads", load(threads=2, workers=3), InputError, "workers 3 ", "from 1 to 2"),
    Case("batches of no tokens", load(batch_tokens=0), InputError, "batch_tokens 0 ", "a whole number from 1"),
    Case(
        "a name that quoit does not have",
        lambda world: getattr(quoit, "Embeder"),  # noqa: B009
        AttributeError,
        "'Embeder'",
        "it has ArtifactError, AsyncEmbedder, AsyncReranker, ComputeError, ",
    ),
    Case("no candidates", Command("quoit", rank_arguments("--candidates", "0")), InputError, "--candidates 0", "use"),
    Case(
        "a file as cache",
        Command("quoit", search_with_a_file_as_cache),
        InputError,
        "/cache is a file",
        "name a folder",
    ),
    Case("no results", Command("quoit", rank_arguments("--top", "0")), InputError, "--top 0", "use a number from 1"),
    Case(
        "ranges that cannot be read",
        Command("quoit", embed_with_ranges),
        InputError,
        "/ranges.npy is no readable .npy file",
        "make it with calibration_ranges",
    ),
    Case(
        "no artifact named",
        Command("quoit", search_without_a_model),
        InputError,
        "no artifact was named",
        "use --model FOLDER, or set QUOIT_MODEL",
    ),
]
