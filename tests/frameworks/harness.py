"""The artifacts that the frameworks' packages load, and the examples of their pages."""

import os
import re
from pathlib import Path
from typing import Any

EMBEDDER = os.environ.get("QUOIT_EMBEDDER", "")
RERANKER = os.environ.get("QUOIT_RERANKER", "")
OPTIONS: dict[str, Any] = {"provider": "cpu"}
PACKAGES = Path(__file__).resolve().parents[2] / "runtime" / "integrations"


def examples(package: str) -> list[str]:
    """Return the Python examples of a package's page, with the small models in the place of those it names."""
    page = (PACKAGES / package / "README.md").read_text(encoding="utf-8")
    found: list[str] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return [
        example.replace("models/embedding-onnx", EMBEDDER).replace("models/reranker-onnx", RERANKER)
        for example in found
    ]


def example_of(module: str) -> str:
    """Return the example of quoit-integrations that imports a module of it, such as "sentence_transformers"."""
    (found,) = [
        example for example in examples("quoit-integrations") if f"from quoit_integrations.{module} import" in example
    ]
    return found
