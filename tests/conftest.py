"""The real thing made small: the genuine Qwen3 tokenizer, checkpoints by transformers, artifacts by quoit-export."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import Qwen3Model

from quoit import Embedder
from quoit.artifact import Artifact
from quoit_export.checkpoint import Checkpoint, open_checkpoint
from quoit_export.publish import Request, publish
from qwen3_tokenizer import build_tokenizer
from support import Embedders, Ids, Oracle, Vectors, make_model, save_checkpoint


@pytest.fixture(scope="session")
def tokenizer_file(pytestconfig: pytest.Config) -> Path:
    """The genuine Qwen3 tokenizer with the end-token post-processor; built once, then cached."""
    assert pytestconfig.cache is not None
    file = pytestconfig.cache.mkdir("qwen3-tokenizer") / "tokenizer.json"
    if not file.is_file():
        draft = file.with_suffix(".draft")
        build_tokenizer().save(str(draft))
        draft.replace(file)
    return file


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tokenizer_file))


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    """An unsharded checkpoint as transformers 5 writes it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small-qwen3-embedding"
    return save_checkpoint(folder, tokenizer_file, make_model())


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> Checkpoint:
    return open_checkpoint(str(checkpoint_folder))


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory, checkpoint: Checkpoint) -> Artifact:
    """All variants of the checkpoint, fp32 verified against transformers. Read-only: copy it to change it."""
    out = tmp_path_factory.mktemp("artifacts") / "small"
    return publish(checkpoint, Request(out, ("fp32", "fp16", "int8"), verify=True))


@pytest.fixture(scope="session")
def embedders(artifact: Artifact) -> Embedders:
    """The artifact's embedder of a precision, on the CPU, loaded once."""
    return cache(lambda precision: Embedder(artifact.folder, precision=precision, provider="cpu"))


@pytest.fixture(scope="session")
def reference_model(checkpoint_folder: Path) -> Any:
    model: Any = Qwen3Model.from_pretrained(checkpoint_folder, dtype=torch.float32)
    model.eval()
    return model


@pytest.fixture(scope="session")
def oracle(reference_model: Any) -> Oracle:
    """transformers' unit vectors of token rows, one row at a time, in float32."""

    def vectors(rows: Sequence[Ids]) -> Vectors:
        with torch.inference_mode():
            states = [reference_model(input_ids=torch.tensor([list(row)])).last_hidden_state[0, -1] for row in rows]
        found: Vectors = torch.nn.functional.normalize(torch.stack(states)).numpy()
        return found

    return vectors
