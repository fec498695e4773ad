"""The servers that are compared: the environment of each, its command, and the words it knows."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environments import make_environment, run
from bench.record import ROOT
from bench.studies.serving.load import FOREVER, Job
from bench.studies.serving.texts import Text
from bench.studies.serving.wire import request
from quoit.artifact import EmbeddingContract, Precision, Task, open_artifact
from quoit.text.prompts import query_prompt
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish

REQUIREMENTS = Path(__file__).parent / "requirements"
SERVERS = Path(__file__).parent / "servers"
TRAINED: dict[Task, str] = {"embedding": "quoit-embedding-9m", "rerank": "quoit-reranker-6m"}
MODEL = "model"
"""Name that every server calls the model by."""
LONGEST_WAIT = 600
"""Seconds that quoit lets a request wait. Clients say how long they wait themselves, as OpenAI's clients do."""
PATIENCE_HEADER = "x-stainless-read-timeout"
LLAMA_TOKENS = 8192
CPU_THREADS = "--n_threads"


@dataclass(frozen=True)
class Files:
    """What is served.

    Attributes:
        checkpoint: the embedding checkpoint.
        artifact: quoit's artifact of it.
        reranker: quoit's artifact of a reranker; None for none.
        folder: where what others make of the checkpoint is kept.
        precision: the precision that quoit serves.
    """

    checkpoint: Path
    artifact: Path
    reranker: Path | None
    folder: Path
    precision: Precision = "int8"

    @property
    def query_prompt(self) -> str:
        """What stands before a query."""
        return query_prompt(open_artifact(self.artifact).contract(EmbeddingContract).prompts, None).text


def make_files(shape: str, folder: Path) -> Files:
    """Write the checkpoints of a shape, or take the trained ones for `small`, and export them to int8."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints: dict[Task, Path] = {}
    for task, name in TRAINED.items():
        checkpoints[task] = ROOT / "models" / name if shape == "small" else folder / f"{task}-checkpoint"
        if shape != "small":
            command = [sys.executable, str(ROOT / "models" / "random_checkpoint.py"), str(checkpoints[task])]
            subprocess.run([*command, "--shape", shape, "--task", task], check=True, stdout=sys.stderr)
        if not (folder / task / "quoit.json").is_file():
            shutil.rmtree(folder / task, ignore_errors=True)
            publish(open_checkpoint(str(checkpoints[task])), Request(folder / task, ("int8",)))
    return Files(checkpoints["embedding"], folder / "embedding", folder / "rerank", folder)


Command = Callable[[Files, int, int], list[str]]
"""Function of the files, the port and the threads."""


@dataclass(frozen=True)
class System:
    """A server, set up one way.

    Attributes:
        name: name in tables and on the command line.
        command: makes its environment and files where needed, and returns its command.
        path: where it takes texts.
        health: where it says that it is alive.
        ready: where it says that it is ready, if that is another path.
        own: whether it is quoit: it is told which texts are queries, ranks documents and has metrics.
    """

    name: str
    command: Command
    path: str = "/v1/embeddings"
    health: str = "/health"
    ready: str | None = None
    own: bool = False


@dataclass(frozen=True)
class Requests:
    """The requests to a system.

    Attributes:
        system: the system.
        query_prompt: what stands before a query, for a system that is not told so.
    """

    system: System
    query_prompt: str

    def embed(self, texts: Sequence[Text], kind: str, *, patience: float = FOREVER, query: bool = False) -> Job:
        """A request for vectors."""
        given = [each.text for each in texts]
        body: dict[str, Any] = {"model": MODEL, "input": given, "encoding_format": "float"}
        if self.system.own:
            body["input_type"] = "query" if query else "document"
        elif query:
            body["input"] = [self.query_prompt + text for text in given]
        return self._job(self.system.path, body, texts, kind, patience)

    def rerank(self, query: Text, documents: Sequence[Text], kind: str, *, patience: float = FOREVER) -> Job:
        """A request for a ranking."""
        body = {"query": query.text, "documents": [each.text for each in documents]}
        return self._job("/v1/rerank", body, documents, kind, patience)

    def health(self) -> Job:
        """The question whether the server is alive."""
        return Job(request(self.system.health), texts=0, patience=FOREVER, kind="health")

    def _job(self, path: str, body: Any, texts: Sequence[Text], kind: str, patience: float) -> Job:
        headers = {PATIENCE_HEADER: f"{patience:g}"}
        message = request(path, json.dumps(body).encode(), headers)
        return Job(message, len(texts), sum(each.tokens for each in texts), patience, kind)


def environment(name: str) -> Path:
    """The Python of a system's environment."""
    return make_environment(f"serving-{name}", REQUIREMENTS / f"{name}.txt")


def quoit_command(files: Files, port: int, threads: int) -> list[str]:
    """quoit with its defaults, but for the wait."""
    command = [sys.executable, "-m", "quoit", "serve", str(files.artifact), "--name", MODEL, "--port", str(port)]
    if files.reranker is not None:
        command += ["--reranker", str(files.reranker)]
    command += ["--precision", files.precision, "--provider", "cpu", "--threads", str(threads)]
    return [*command, "--max-wait", str(LONGEST_WAIT)]


def script(name: str, server: str) -> Command:
    """A script of `servers` in an environment."""

    def command(files: Files, port: int, threads: int) -> list[str]:
        return [str(environment(name)), str(SERVERS / f"{server}.py"), str(files.checkpoint), str(port), str(threads)]

    return command


def infinity_command(files: Files, port: int, _: int) -> list[str]:
    """infinity on torch with its defaults for a CPU."""
    program = environment("infinity").with_name("infinity_emb")
    command = [str(program), "v2", "--model-id", str(files.checkpoint), "--served-model-name", MODEL]
    command += ["--host", "127.0.0.1", "--port", str(port), "--engine", "torch", "--device", "cpu"]
    return [*command, "--dtype", "float32", "--no-model-warmup"]


def llama_command(files: Files, port: int, threads: int) -> list[str]:
    """llama.cpp by llama-cpp-python's server, in Q8_0."""
    python = environment("llama-cpp")
    workers = "bench.side_by_side.workers"
    plain, quantized = files.folder / "bf16.gguf", files.folder / "Q8_0.gguf"
    if not quantized.is_file():
        run([sys.executable, "-m", f"{workers}.gguf_file", str(files.checkpoint), str(plain)])
        run([str(python), "-m", f"{workers}.gguf_quantize", str(plain), str(quantized), "Q8_0"])
    tokens = str(LLAMA_TOKENS)
    command = [str(python), "-m", "llama_cpp.server", "--model", str(quantized), "--model_alias", MODEL]
    command += ["--embedding", "true", "--n_ctx", tokens, "--n_batch", tokens, CPU_THREADS, str(threads)]
    return [*command, f"{CPU_THREADS}_batch", str(threads), "--host", "127.0.0.1", "--port", str(port)]


OWN = System("quoit", quoit_command, health="/live", ready="/ready", own=True)
SYSTEMS = (
    OWN,
    System("infinity", infinity_command, path="/embeddings"),
    System("FastAPI, lock", script("sentence-transformers", "fastapi_lock")),
    System("FastAPI, batcher", script("sentence-transformers", "fastapi_batcher")),
    System("LitServe", script("litserve", "litserve_api")),
    System("llama.cpp", llama_command, health="/v1/models"),
)
