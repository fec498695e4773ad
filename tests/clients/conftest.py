"""A real server, what is expected of it, and a way to run the JavaScript clients."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from clients.harness import HERE, NODE_FOLDER, PYTHON, SECONDS, Answers, Node, Server, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server as it is by default."""
    with running() as found:
        yield found


@pytest.fixture(scope="session")
def strict_server() -> Iterator[Server]:
    """A server that asks for a key, refuses other models' names, and accepts token ids."""
    with running("--strict-model", "--token-ids", "--max-queue-tokens", "1000", key="sesame") as found:
        yield found


@pytest.fixture(scope="session")
def answers() -> Iterator[Answers]:
    """What `Embedder` and `Reranker` answer, in a process of the repository's environment."""
    command = [PYTHON, str(HERE / "answers.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(question: str) -> str:
            stdin.write(question + "\n")
            stdin.flush()
            return stdout.readline()

        yield Answers(ask)
        stdin.close()


@pytest.fixture(scope="session")
def node(server: Server) -> Node:
    """A function that runs a case of clients.mjs and returns what it prints, parsed."""
    program = NODE_FOLDER / "clients.mjs"
    shutil.copy(HERE / "clients.mjs", program)

    def run(case: str, *, url: str = server.url, **options: Any) -> Any:
        command = ["node", str(program), case, json.dumps({"url": url, **options})]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def overloaded(strict_server: Server) -> Iterator[None]:
    """Keep a server's queue full for a second or two."""
    body = {"input": ["word " * 900 + str(number) for number in range(40)]}
    data = json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {strict_server.key}"}
    request = urllib.request.Request(f"{strict_server.url}/v1/embeddings", data, headers)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: urllib.request.urlopen(request).read())
        until = time.monotonic() + SECONDS
        while not strict_server.count("quoit_queue_tokens") and time.monotonic() < until:
            time.sleep(0.01)
        yield
        waiting.result()
