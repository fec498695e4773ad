"""The artifacts that the frameworks' packages load."""

import os
from typing import Any

EMBEDDER = os.environ.get("QUOIT_EMBEDDER", "")
RERANKER = os.environ.get("QUOIT_RERANKER", "")
OPTIONS: dict[str, Any] = {"provider": "cpu"}
