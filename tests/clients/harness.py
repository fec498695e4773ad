"""A server process on the small models, and what `Embedder` and `Reranker` say of the same texts.

`scripts/test_clients` names the repository's Python, the models and the JavaScript packages in the environment.
"""

import contextlib
import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
PYTHON = os.environ["QUOIT_PYTHON"]
EMBEDDER, RERANKER = os.environ["QUOIT_EMBEDDER"], os.environ["QUOIT_RERANKER"]
NODE_FOLDER = Path(os.environ["QUOIT_NODE"])
LISTENING = re.compile(r"listening on (http://\S+), loading")
SECONDS = 60
TEXTS = [
    "The capital of China is Beijing.",
    "Gravity pulls two bodies together.",
    "Die Hauptstadt",
    "北京 😀\nline",
    "",
]
"""Texts of several languages and lengths, one of them empty."""
QUERY = "What is the capital of China?"

for telemetry in ("HAYSTACK_TELEMETRY_ENABLED", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING"):
    os.environ[telemetry] = "false"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@dataclass(frozen=True)
class Server:
    """A server process.

    Attributes:
        url: its address, without a slash at the end.
        key: the API key that it asks for; "none" where it asks for none.
    """

    url: str
    key: str = "none"

    @property
    def openai(self) -> str:
        """The base URL that OpenAI's clients are given."""
        return f"{self.url}/v1"

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        with urllib.request.urlopen(self.url + path) as response:
            return json.load(response)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer to a body."""
        found = {"content-type": "application/json"} | (headers or {})
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), found)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def count(self, metric: str, **labels: str) -> float:
        """A metric, summed over the series that have these labels."""
        request = urllib.request.Request(f"{self.url}/metrics", headers={"authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request) as response:
            lines = response.read().decode().splitlines()
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        found = [line for line in lines if line.startswith(metric) and all(label in line for label in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


@contextlib.contextmanager
def running(*options: str, key: str | None = None) -> Iterator[Server]:
    """A server on any free port, once it is ready."""
    command = [PYTHON, "-m", "quoit", "serve", EMBEDDER, "--reranker", RERANKER, "--port", "0", "--drain-delay", "0"]
    environment = os.environ | ({} if key is None else {"QUOIT_API_KEY": key})
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line)
            if "ready after" in line:
                break
        found = LISTENING.search("".join(lines))
        assert found is not None, "".join(lines)
        with subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL):
            yield Server(found[1], key or "none")
            process.terminate()
            assert process.wait(SECONDS) == 0
    finally:
        process.kill()


@dataclass
class Answers:
    """What `Embedder` and `Reranker` answer; each question is asked once.

    Attributes:
        ask: function that asks a question.
        known: answers by question.
    """

    ask: Callable[[str], str]
    known: dict[str, str] = field(default_factory=dict)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        question = json.dumps({"method": method, "arguments": arguments, "options": options})
        if question not in self.known:
            self.known[question] = self.ask(question)
        return json.loads(self.known[question])

    def _vectors(self, method: str, texts: list[str], **options: Any) -> NDArray[np.float32]:
        found = self._call(method, texts, **options)
        return np.frombuffer(bytes.fromhex(found["hex"]), np.float32).reshape(found["shape"])

    def document(self, texts: list[str], **options: Any) -> NDArray[np.float32]:
        """`Embedder.encode_document`, [n, dim]."""
        return self._vectors("encode_document", texts, **options)

    def query(self, texts: list[str], **options: Any) -> NDArray[np.float32]:
        """`Embedder.encode_query`, [n, dim]."""
        return self._vectors("encode_query", texts, **options)

    def rank(self, query: str, documents: list[str], **options: Any) -> list[tuple[int, float]]:
        """`Reranker.rank`: indices and scores, best first."""
        return [(entry["index"], entry["score"]) for entry in self._call("rank", query, documents, **options)]


Node = Callable[..., Any]
"""Function that runs a case of clients.mjs and returns what it prints, parsed."""


def same(found: Any, expected: NDArray[np.float32]) -> bool:
    """Whether numbers are these vectors, to the bit."""
    return np.array_equal(np.array(found, np.float32), expected)
