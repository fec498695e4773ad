"""Fixtures that the runtime's tests share: the command line, and the small models in fp32 on the CPU."""

from pathlib import Path

import pytest

from command_line import RUN, Outcome, Quoit
from quoit import Embedder, Reranker
from quoit.artifact import Artifact
from quoit.cli.main import main
from quoit.cli.options import MODEL_VARIABLE, RERANKER_VARIABLE
from support import Embedders, Rerankers


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No artifact is named, and the user's cache folder is the test's own."""
    folder = tmp_path_factory.mktemp("user-cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    for variable in (MODEL_VARIABLE, RERANKER_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def quoit(environment: Path, capsys: pytest.CaptureFixture[str]) -> Quoit:
    """Runs the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def model(artifact: Artifact) -> list[str]:
    """The options that name the embedding artifact, in fp32 on the CPU."""
    return ["--model", str(artifact.folder), *RUN]


@pytest.fixture
def judge(rerank_artifact: Artifact) -> list[str]:
    """The options that name the rerank artifact, in fp32 on the CPU."""
    return ["--model", str(rerank_artifact.folder), *RUN]


@pytest.fixture
def embedder(embedders: Embedders) -> Embedder:
    return embedders("fp32")


@pytest.fixture
def reranker(rerankers: Rerankers) -> Reranker:
    return rerankers("fp32")
