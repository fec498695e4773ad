"""The examples of the packages' pages run, and find the answer."""

import re
from pathlib import Path

import pytest

from frameworks.harness import EMBEDDER, RERANKER

PAGES = sorted((Path(__file__).parents[2] / "runtime" / "integrations").glob("*/README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.name))
def test_the_example_finds_the_answer(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    if "sentence_transformers" in example:
        pytest.skip("the tests of the repository run it")
    example = example.replace("models/embedding-onnx", EMBEDDER).replace("models/reranker-onnx", RERANKER)
    exec(example, {})
    assert "The capital of China is Beijing." in capsys.readouterr().out


def test_every_package_has_an_example() -> None:
    assert len(PAGES) == 5
