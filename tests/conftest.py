"""The real thing made small: the genuine Qwen3 tokenizer, checkpoints by transformers, artifacts by quoit-export.

Fixtures import torch, transformers (`oracle`) and quoit-export when they run: a test of a planner starts without them.
"""

import os
import signal
import sys
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

from quoit import Embedder, Reranker
from quoit.artifact import Artifact, Precision
from qwen3_tokenizer import build_tokenizer
from support import Embedders, Oracle, Rerankers, byte_tokenizer

if TYPE_CHECKING:
    from quoit_export.checkpoint.checkpoint import Checkpoint

collect_ignore = ["clients", "frameworks"]
"""Tests that need the packages of other projects; `scripts/test_clients` and `scripts/test_frameworks` run them."""


def pytest_configure() -> None:
    """Where several processes share the tests (`-n`), each keeps to a core of its own, threads included.

    No test has imported torch yet; it counts the cores that it may use and starts as many threads.
    A shell's background job ignores Ctrl-C, and so would the programs that tests start in it and interrupt.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Removes hypothesis's summary where no test used hypothesis: it would import the library, which takes a second."""
    if "hypothesis" not in sys.modules and session.config.getoption("dist", "no") == "no":
        session.config.pluginmanager.unregister(name="hypothesispytest")


def cached_tokenizer(pytestconfig: pytest.Config, name: str, *, end_token: bool) -> Path:
    """A genuine Qwen3 tokenizer.json; built once, then cached."""
    assert pytestconfig.cache is not None
    file = pytestconfig.cache.mkdir(name) / "tokenizer.json"
    if not file.is_file():
        draft = file.with_suffix(f".{os.getpid()}.draft")
        build_tokenizer(end_token=end_token).save(str(draft))
        draft.replace(file)
    return file


@pytest.fixture(scope="session")
def tokenizer_file(pytestconfig: pytest.Config) -> Path:
    """The genuine Qwen3 tokenizer with the end-token post-processor, as Qwen3-Embedding has it."""
    return cached_tokenizer(pytestconfig, "qwen3-tokenizer", end_token=True)


@pytest.fixture(scope="session")
def plain_tokenizer_file(pytestconfig: pytest.Config) -> Path:
    """The genuine Qwen3 tokenizer that appends nothing, as Qwen3-Reranker has it."""
    return cached_tokenizer(pytestconfig, "qwen3-plain-tokenizer", end_token=False)


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tokenizer_file))


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    """An unsharded checkpoint as transformers 5 writes it."""
    from oracle import make_model, save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "small-qwen3-embedding"
    return save_checkpoint(folder, tokenizer_file, make_model())


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> "Checkpoint":
    from quoit_export.checkpoint.checkpoint import open_checkpoint

    return open_checkpoint(str(checkpoint_folder))


def export(checkpoint_folder: Path, out: Path, *precisions: Precision, verify: bool = False) -> Artifact:
    """The artifact of a checkpoint in a new folder."""
    from quoit_export.checkpoint.checkpoint import open_checkpoint
    from quoit_export.export import Request, publish

    return publish(open_checkpoint(str(checkpoint_folder)), Request(out, precisions, verify=verify))


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path) -> Artifact:
    """All variants of the checkpoint, fp32 verified against transformers. Read-only: copy it to change it."""
    out = tmp_path_factory.mktemp("artifacts") / "small"
    return export(checkpoint_folder, out, "fp32", "fp16", "int8", verify=True)


@pytest.fixture(scope="session")
def embedders(artifact: Artifact) -> Embedders:
    """The artifact's embedder of a precision, on the CPU, loaded once."""
    return cache(lambda precision: Embedder(artifact.folder, precision=precision, provider="cpu"))


@pytest.fixture(scope="session")
def rerank_checkpoint_folder(tmp_path_factory: pytest.TempPathFactory, plain_tokenizer_file: Path) -> Path:
    """A reranker's checkpoint whose head is its embeddings, as the official ones are."""
    from oracle import make_reranker, save_rerank_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "small-qwen3-reranker"
    return save_rerank_checkpoint(folder, plain_tokenizer_file, make_reranker())


@pytest.fixture(scope="session")
def rerank_artifact(tmp_path_factory: pytest.TempPathFactory, rerank_checkpoint_folder: Path) -> Artifact:
    """All variants of the reranker, fp32 verified against transformers. Read-only: copy it to change it."""
    out = tmp_path_factory.mktemp("artifacts") / "small-reranker"
    return export(rerank_checkpoint_folder, out, "fp32", "fp16", "int8", verify=True)


@pytest.fixture(scope="session")
def rerankers(rerank_artifact: Artifact) -> Rerankers:
    """The rerank artifact's reranker of a precision, on the CPU, loaded once."""
    return cache(lambda precision: Reranker(rerank_artifact.folder, precision=precision, provider="cpu"))


@pytest.fixture(scope="session")
def reference_model(checkpoint_folder: Path) -> Any:
    """transformers' Qwen3Model of the checkpoint, in float32."""
    from oracle import load_reference

    return load_reference(checkpoint_folder)


@pytest.fixture(scope="session")
def oracle(reference_model: Any) -> Oracle:
    """transformers' unit vectors of token rows, one row at a time, in float32."""
    from oracle import unit_vectors

    return partial(unit_vectors, reference_model)


@pytest.fixture(scope="session")
def byte_checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 0.3 MB whose tokens are bytes: it is exported in half a second. Read-only."""
    from oracle import make_model, save_checkpoint

    folder = tmp_path_factory.mktemp("byte-checkpoints")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    model = make_model(vocab_size=512, num_hidden_layers=2, max_position_embeddings=2048)
    return save_checkpoint(folder / "bytes", folder / "tokenizer.json", model)


@pytest.fixture(scope="session")
def byte_artifact(tmp_path_factory: pytest.TempPathFactory, byte_checkpoint_folder: Path) -> Artifact:
    """The byte checkpoint's artifact. Read-only: copy it to change it."""
    out = tmp_path_factory.mktemp("byte-artifacts") / "bytes"
    return export(byte_checkpoint_folder, out, "fp32", "int8")


@pytest.fixture(scope="session")
def half_artifact(tmp_path_factory: pytest.TempPathFactory, byte_checkpoint_folder: Path) -> Artifact:
    """The byte checkpoint in all that CUDA runs, and fp32. Read-only: copy it to change it."""
    out = tmp_path_factory.mktemp("half-artifacts") / "bytes"
    return export(byte_checkpoint_folder, out, "fp32", "fp16", "bf16", "int4")
