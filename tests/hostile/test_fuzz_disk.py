"""What quoit keeps on disk between runs, damaged: a draft is refused or taken up, a cached file is made anew."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import JSON_VALUES, damaged, fuzz, mutated_json
from quoit import Embedder
from quoit.artifact import Artifact
from quoit.errors import InputError
from quoit.files.partial_output import PROGRESS, ROWS, drafting
from quoit.files.readers import Record
from quoit.search import VectorCache
from quoit.text.tokenizer import Truncation

TEXTS = [f"text {number}" for number in range(9)]
DONE = 4
VECTORS = np.arange(9 * 3, dtype=np.float32).reshape(9, 3)


class InterruptedRunError(Exception):
    """Ends a run in the middle."""


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The draft that a run leaves which ended after DONE texts."""
    destination = tmp_path_factory.mktemp("drafts") / "out.npy"
    with suppress(InterruptedRunError), drafting(destination, "job", VECTORS[:0], resume=False) as draft:
        remaining = draft.remaining(Record(text, "") for text in TEXTS)
        for _ in range(DONE):
            next(remaining)
        draft.write(VECTORS[:DONE], DONE, Truncation())
        raise InterruptedRunError
    return destination.with_name(".out.npy.partial")


@fuzz(500)
@given(st.data())
def test_a_damaged_draft_is_refused_or_completed_to_the_same_vectors(
    interrupted: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = interrupted.parent / "copies" / interrupted.name
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(interrupted, folder)
    sound = (folder / PROGRESS).read_bytes()
    mutated = mutated_json(json.loads(sound), JSON_VALUES | st.integers(-3, 12)).map(
        lambda new: json.dumps(new).encode()
    )
    (folder / PROGRESS).write_bytes(data.draw(mutated | damaged(sound)))
    if data.draw(st.integers(0, 3)) == 0:
        with (folder / ROWS).open("r+b") as rows:
            rows.truncate(data.draw(st.integers(0, 200)))
    destination = folder.parent / "out.npy"
    try:
        with drafting(destination, "job", VECTORS[:0], resume=True) as draft:
            start = draft.progress.rows
            rest = len(list(draft.remaining(Record(text, "") for text in TEXTS)))
            draft.write(VECTORS[start:], rest, Truncation())
    except InputError as error:
        assert "--restart" in str(error)  # noqa: PT017
        assert not destination.exists()
        return
    np.testing.assert_array_equal(np.load(destination), VECTORS)


@pytest.mark.parametrize("rows", [-1, -(10**30), DONE + 1, 10**30])
def test_a_draft_with_an_impossible_count_is_refused(interrupted: Path, rows: int) -> None:
    folder = interrupted.parent / "counts" / interrupted.name
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(interrupted, folder)
    document = json.loads((folder / PROGRESS).read_text())
    (folder / PROGRESS).write_text(json.dumps(document | {"rows": rows}))
    with (
        pytest.raises(InputError, match="--restart"),
        drafting(folder.parent / "out.npy", "job", VECTORS[:0], resume=True) as draft,
    ):
        list(draft.remaining(Record(text, "") for text in TEXTS))


@pytest.fixture(scope="module")
def byte_embedder(byte_artifact: Artifact) -> Embedder:
    return Embedder(byte_artifact, precision="fp32")


@fuzz(400)
@given(st.data())
def test_a_damaged_cache_is_made_anew(
    byte_embedder: Embedder, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cache = VectorCache(tmp_path_factory.getbasetemp() / "cache")
    expected = cache.documents(byte_embedder, TEXTS)
    (file,) = cache.folder.glob("*.npz")
    sound: Any = file.read_bytes()
    file.write_bytes(data.draw(damaged(sound)))
    np.testing.assert_array_equal(cache.documents(byte_embedder, TEXTS), expected)
    file.unlink()
