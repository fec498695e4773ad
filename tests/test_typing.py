"""A user's script type-checks against the package as it is installed: mypy --strict and pyright's strict mode agree."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import quoit
from test_readme import code_blocks

SOURCES = Path(str(quoit.__file__)).parent.parent

RIGHT = """
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from quoit import Embedder, Reranker, __version__, calibration_ranges

version: str = __version__
embedder = Embedder(Path("folder"), precision="int8", provider="cpu", threads=np.int64(2), cuda_graphs=False)


def texts() -> Iterator[str]:
    yield "text"


one: NDArray[np.float32] = embedder.encode("text")
many: NDArray[np.float32] = embedder.encode(texts(), dim=np.int32(32), show_progress=True)
half: NDArray[np.float16] = embedder.encode_query(("a", "b"), instruction="Find", dtype=np.float16, normalize=False)
array = np.array(["a", "b"])
levels: NDArray[np.int8] = embedder.encode_document(array, dtype="int8", ranges=calibration_ranges(many))
also: NDArray[np.uint8] = embedder.encode({"id": "text"}.values(), dtype=np.dtype("uint8"), ranges=None)
for part in embedder.encode_stream(texts(), prompt="Query: "):
    assert_type(part, NDArray[Any])

reranker = Reranker("folder", max_tokens=512, tuned="latency")
ranking = reranker.rank("query", texts(), top_k=np.int64(3), return_documents=True, separator="\\n\\n")
best: tuple[int, float] = ranking[0]["index"], ranking[0]["score"]
pairs = [("query", "document")]
assert_type(reranker.predict(pairs), NDArray[np.float32])
assert_type(reranker.predict([["query", "document"]], activation="logit"), NDArray[np.float32])
assert_type(reranker.predict(zip(["query"], texts())), NDArray[np.float32])
assert_type(reranker.predict(np.array(pairs)), NDArray[np.float32])
assert_type(reranker.predict({"query": "document"}.items()), NDArray[np.float32])
assert_type(reranker.predict(("query", "document")), np.float32)
"""

WRONG = """
from quoit import Embedder, Reranker

embedder = Embedder("folder")
reranker = Reranker("folder")
Embedder("folder", device="cpu")  # wrong
Embedder("folder", precision="fp8")  # wrong
Embedder(5)  # wrong
embedder.encode("text", truncate_dim=32)  # wrong
embedder.encode("text", dim="32")  # wrong
embedder.encode("text", dtype="float8")  # wrong
embedder.encode("text", normalize=None)  # wrong
embedder.encode([b"text"])  # wrong
embedder.encode(None)  # wrong
embedder.encode_stream(5)  # wrong
embedder.encode_query("text", prompt="Query: ")  # wrong
reranker.rank("query", ["document"], top_n=3)  # wrong
reranker.rank(["query"], ["document"])  # wrong
reranker.rank("query", ["document"], separator=" ")  # wrong
reranker.predict(["query", 5])  # wrong
reranker.predict([("query", "document", "more")])  # wrong
reranker.predict([("query", "document")], batch_size=8)  # wrong
"""


@dataclass(frozen=True)
class Checked:
    """What a checker said: the lines with errors of each file, and all of it."""

    errors: dict[str, set[int]]
    report: str


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the README's examples, one script of right calls, and one of wrong ones."""
    folder = tmp_path_factory.mktemp("scripts")
    examples = code_blocks("python")
    assert all(name in "".join(examples) for name in ("Embedder(", "Reranker("))
    for number, example in enumerate([*examples, RIGHT]):
        (folder / f"right_{number}.py").write_text(example.lstrip())
    (folder / "wrong.py").write_text(WRONG.lstrip())
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    return folder


def run(command: list[str], folder: Path) -> str:
    """A checker's output. The sources stand where an interpreter finds installed packages, whoever installed them."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    environment.pop("MYPYPATH", None)
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


def mypy(folder: Path) -> Checked:
    report = run([sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "."], folder)
    errors: dict[str, set[int]] = {}
    for line in report.splitlines():
        file, number, kind, _ = line.split(":", 3)
        if kind == " error":
            errors.setdefault(file, set()).add(int(number))
    return Checked(errors, report)


def pyright(folder: Path) -> Checked:
    report = run([sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable], folder)
    errors: dict[str, set[int]] = {}
    for found in json.loads(report)["generalDiagnostics"]:
        assert found["severity"] == "error", found
        errors.setdefault(Path(found["file"]).name, set()).add(found["range"]["start"]["line"] + 1)
    return Checked(errors, report)


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_right_calls_are_accepted_and_wrong_ones_are_not(scripts: Path, checker: object) -> None:
    assert callable(checker)
    checked = checker(scripts)
    lines = WRONG.lstrip().splitlines()
    expected = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(expected) == 17
    assert checked.errors == {"wrong.py": expected}, checked.report
