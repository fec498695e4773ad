"""A model in a forked child: a clear error at the first call, nothing that hangs, and a model loaded there works."""

import subprocess
import sys
from pathlib import Path

import pytest

from quoit.artifact import Artifact

SECONDS = 120
PARENT = """
import os, sys
import quoit
kind, path = getattr(quoit, sys.argv[1]), sys.argv[2]
texts = [" ".join(["word"] * (20 * n)) for n in range(1, 8)]
def answer(model):
    if isinstance(model, quoit.Embedder):
        return model.encode(texts)
    return model.predict([("query", text) for text in texts])
model = kind(path, precision="fp32", provider="cpu", threads=2, workers=2)
expected = answer(model)
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    print("parent", (answer(model) == expected).all(), status)
    sys.exit()
"""
REFUSED = """
for _ in range(2):
    try:
        answer(model)
    except quoit.ProviderError as error:
        print(error, flush=True)
"""
LOADED = """
other = kind(path, precision="fp32", provider="cpu", threads=2)
print((answer(other) == expected).all(), flush=True)
"""

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
    pytest.mark.parametrize("kind", ["Embedder", "Reranker"]),
]


@pytest.fixture
def path(kind: str, artifact: Artifact, rerank_artifact: Artifact) -> Path:
    return {"Embedder": artifact, "Reranker": rerank_artifact}[kind].folder


def run(kind: str, path: Path, child: str) -> list[str]:
    """What a parent and its forked child print; a child that hangs, at its end too, is an error."""
    command = [sys.executable, "-W", "ignore", "-c", PARENT + child, kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_a_forked_child_is_told_to_load_the_model_itself(kind: str, path: Path) -> None:
    *refusals, parent = run(kind, path, REFUSED)
    assert parent == "parent True 0"
    assert len(refusals) == 2
    assert all("a fork of it" in line and "load the model after the fork" in line for line in refusals)
    assert all("multiprocessing's 'spawn'" in line for line in refusals)


def test_a_model_that_the_child_loads_works_and_the_child_ends(kind: str, path: Path) -> None:
    """Freed at the child's end, the parent's model would wait for a thread of the child's own."""
    assert run(kind, path, LOADED) == ["True", "parent True 0"]


def test_a_child_that_does_nothing_with_the_model_ends(kind: str, path: Path) -> None:
    assert run(kind, path, "del model") == ["parent True 0"]
