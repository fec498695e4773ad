"""Errors of documents: PDF, what git ignores, chunks, and stored vectors that are searched."""

import json
import sys
from typing import Any, NoReturn, cast

import lance
import numpy as np
import pyarrow
from pyarrow import parquet

from documents import write_pdf
from messages.harness import Case, Command, Trigger, World
from messages.triggers import rank_arguments
from quoit import InputError
from quoit.files.chunks import Chunking
from quoit.files.readers import Record, files_of, read_texts
from quoit.files.stored import open_stored
from quoit.search import check_stored, nearest_stored


def without(module: str, trigger: Trigger) -> Trigger:
    """An import block: the tests have the package."""

    def blocked(world: World) -> object:
        world.patch.setitem(sys.modules, module, cast("Any", None))
        return trigger(world)

    return blocked


def read(name: str, content: bytes) -> Trigger:
    return lambda world: list(read_texts(world.write(name, content)))


def read_a_page_that_fails(world: World) -> object:
    def fail(_: object) -> NoReturn:
        raise ValueError("broken stream")

    world.patch.setattr("pypdf.PageObject.extract_text", fail)
    return list(read_texts(world.write("a.pdf", write_pdf("text"))))


def walk(world: World) -> object:
    """A folder with a `.gitignore`."""
    world.write(".gitignore", b"x\n")
    world.write("a.md", "text\n")
    return files_of(str(world.folder), ignore=True)


def walk_with_a_link_to_nothing(world: World) -> object:
    (world.folder / ".gitignore").symlink_to("absent")
    world.write("a.md", "text\n")
    return files_of(str(world.folder), ignore=True)


def write_stored(world: World, vectors: Any = None, **about: Any) -> str:
    """A file of vectors as `quoit embed` writes it."""
    dim = world.embedder().dim
    described = {"model": world.embedder().pipeline.artifact.manifest.source.id, "dim": dim, "dtype": "float32"}
    rows = [np.ones(dim, np.float32).tolist()] if vectors is None else vectors
    values = pyarrow.array(rows, pyarrow.list_(pyarrow.float32(), dim))
    table = pyarrow.table({"id": range(len(rows)), "vector": values})
    metadata = {"quoit": json.dumps({**described, "normalize": True, "precision": "fp32", **about})}
    file = world.folder / "v.parquet"
    parquet.write_table(table.replace_schema_metadata(metadata), file)
    return str(file)


def compare(**about: Any) -> Trigger:
    """Comparing stored vectors with those of the model."""

    def trigger(world: World) -> None:
        stored = open_stored(write_stored(world, **about))
        assert stored is not None
        check_stored(stored, world.embedder())

    return trigger


def read_a_row_without_a_vector(world: World) -> object:
    stored = open_stored(write_stored(world, [None]))
    assert stored is not None
    return list(stored.batches())


def read_damaged_vectors(world: World) -> object:
    file = write_stored(world)
    stored = open_stored(file)
    assert stored is not None
    (world.folder / "v.parquet").write_bytes(b"PAR1")
    return list(stored.batches())


def open_a_dataset_of_others(world: World) -> object:
    lance.write_dataset(pyarrow.table({"n": [1]}), world.folder / "v.lance")
    return open_stored(str(world.folder / "v.lance"))


def search_a_folder_of_broken_files(world: World) -> list[str]:
    folder = world.folder / "only"
    folder.mkdir()
    (folder / "broken.txt").write_bytes(b"\xff\n")
    return ["search", "query", str(folder), "-m", str(world.sources.artifact)]


def search_what_is_written(world: World) -> list[str]:
    file = write_stored(world)
    return ["search", "query", file, "-o", file, "-m", str(world.sources.artifact)]


def compare_what_is_not_finite(world: World) -> object:
    embedder = world.embedder()
    stored = open_stored(write_stored(world, [[float("nan")] * embedder.dim]))
    assert stored is not None
    return nearest_stored(embedder.encode_query("query"), stored, 1)


def judge_without_texts(world: World) -> list[str]:
    model = ["-m", str(world.sources.artifact), "--rerank", str(world.sources.reranker)]
    return ["search", "query", write_stored(world), "--provider", "cpu", *model]


CASES = [
    Case(
        "PDF without its package",
        without("pypdf", read("a.pdf", write_pdf("a"))),
        InputError,
        "PDF needs pypdf",
        "pip install 'quoit[documents]'",
    ),
    Case("a PDF that is none", read("a.pdf", b"text"), InputError, "/a.pdf is no readable PDF", "check it"),
    Case(
        "a PDF of pictures", read("a.pdf", write_pdf("")), InputError, "/a.pdf has 1 pages and no text", "(OCR) first"
    ),
    Case("a damaged page", read_a_page_that_fails, InputError, "/a.pdf, page 1 cannot be read", "check the file"),
    Case(
        "a .gitignore without its package",
        without("pathspec", walk),
        InputError,
        "/.gitignore needs pathspec",
        "or use --no-ignore",
    ),
    Case(
        "a .gitignore that is not there",
        walk_with_a_link_to_nothing,
        InputError,
        "/.gitignore cannot be read",
        "--no-ignore",
    ),
    Case(
        "chunks that are too small",
        Command("quoit", rank_arguments("--chunk", "3")),
        InputError,
        "--chunk 3",
        "use a number from 32 on",
    ),
    Case(
        "an overlap that is too large",
        Command("quoit", rank_arguments("--chunk", "32", "--overlap", "20")),
        InputError,
        "--overlap 20",
        "between 0 and half of --chunk 32",
    ),
    Case(
        "an overlap without chunks",
        Command("quoit", rank_arguments("--chunk", "0", "--overlap", "4")),
        InputError,
        "--overlap 4 has no effect",
        "leave it out",
    ),
    Case(
        "chunks without their package",
        without("semchunk", lambda _: list(Chunking(32, 0, len).cut([Record("text", "")]))),
        InputError,
        "chunks need semchunk",
        "or use --chunk 0",
    ),
    Case("vectors of another model", compare(model="other"), InputError, "has vectors of other", "name that model"),
    Case("vectors without ranges", compare(dtype="int8"), InputError, "the ranges of its int8", "embed the texts anew"),
    Case(
        "a description that is damaged",
        lambda world: open_stored(write_stored(world, dtype="int4")),
        InputError,
        "/v.parquet does not say what its vectors are",
        "embed the texts anew",
    ),
    Case(
        "a description of other vectors",
        lambda world: open_stored(write_stored(world, dim=7)),
        InputError,
        "and its schema says 7",
        "embed the texts anew",
    ),
    Case("vectors of no numbers", compare_what_is_not_finite, InputError, "not finite", "embed the texts anew"),
    Case(
        "a ranking over what is searched",
        Command("quoit", search_what_is_written),
        InputError,
        "/v.parquet is the output",
        "name another with -o",
    ),
    Case("a row without a vector", read_a_row_without_a_vector, InputError, "after row 0", "embed the texts anew"),
    Case("damaged vectors", read_damaged_vectors, InputError, "/v.parquet cannot be read", "embed the texts anew"),
    Case(
        "a dataset that is none",
        lambda world: open_stored(str(world.folder / "absent.lance")),
        InputError,
        "/absent.lance is no readable Lance dataset",
        "check the path",
    ),
    Case(
        "a dataset of others",
        open_a_dataset_of_others,
        InputError,
        "/v.lance is no dataset that quoit embed wrote",
        "name the texts",
    ),
    Case(
        "a folder of broken files",
        Command("quoit", search_a_folder_of_broken_files),
        InputError,
        "/only/broken.txt, line 1 is not UTF-8",
        "convert it first",
    ),
    Case(
        "a reranker without texts",
        Command("quoit", judge_without_texts),
        InputError,
        "/v.parquet has no column 'text' for the reranker",
        "with --keep text",
    ),
]
