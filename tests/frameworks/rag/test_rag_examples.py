"""The examples of the packages' pages run, and find the answer."""

import pytest

from frameworks.harness import PACKAGES, examples

OURS = ["langchain-quoit", "llama-index-embeddings-quoit", "llama-index-postprocessor-quoit-rerank", "quoit-haystack"]


@pytest.mark.parametrize("package", OURS)
def test_the_example_finds_the_answer(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = examples(package)
    exec(example, {})
    assert "The capital of China is Beijing." in capsys.readouterr().out


def test_every_package_has_an_example() -> None:
    assert sorted([*OURS, "quoit-integrations"]) == sorted(page.parent.name for page in PACKAGES.glob("*/README.md"))
