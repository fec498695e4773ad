"""The study: every system in turn runs every scenario."""

import asyncio
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environments import UnavailableError
from bench.record import WORK
from bench.studies.serving.derived import derived
from bench.studies.serving.figures import Figures, memory
from bench.studies.serving.ground import Ground, Vectors
from bench.studies.serving.process import Server, free_port
from bench.studies.serving.scenarios import run
from bench.studies.serving.systems import Files, Requests, System
from bench.studies.serving.texts import Texts
from bench.studies.turns import Process
from quoit import Embedder
from quoit.artifact import Artifact, open_artifact

LOGS = WORK / "serving"
"""Folder of what servers say."""
BULK_TEXTS = 500
CHECKED_TEXTS = 8
LEAST_COSINE = 0.98
"""A system whose vectors are further from quoit's computes something else, and is not measured."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        files: what is served.
        scenarios: names of the scenarios, in order.
        seconds: about how long each takes.
        threads: number of threads of each server.
        bulk_texts: number of texts of a bulk request.
        port: port of the servers; None for any free one.
        most_texts: number of documents and of queries; None for all.
    """

    files: Files
    scenarios: list[str]
    seconds: float = 30.0
    threads: int = 2
    bulk_texts: int = BULK_TEXTS
    port: int | None = None
    most_texts: int | None = None


def study(plan: Plan, systems: list[System]) -> Figures:
    """Run every system's scenarios; one that cannot run is there with its reason."""
    artifact = open_artifact(plan.files.artifact)
    found: Figures = {"seconds": plan.seconds, "bulk_texts": plan.bulk_texts, "threads": plan.threads, "systems": {}}
    vectors = reference(artifact, plan)
    for system in systems:
        say(f"{system.name} starts")
        try:
            measured = measure(plan, system, Texts(artifact_tokenizer(artifact), plan.most_texts), vectors)
            measured["derived"] = derived(measured["scenarios"])
        except UnavailableError as error:
            measured = {"unavailable": str(error)}
            say(f"{system.name} cannot run: {error}")
        found["systems"][system.name] = measured
        print(json.dumps({system.name: measured}), flush=True)  # the study may be ended during a slow one
    return found


def measure(plan: Plan, system: System, texts: Texts, vectors: Vectors) -> Figures:
    """Start a system's server, and run the scenarios.

    Raises:
        UnavailableError: it cannot be installed or started, or its vectors are others.
    """
    port = plan.port or free_port()
    command = system.command(plan.files, port, plan.threads)
    log = LOGS / f"{system.name.replace(', ', '-').replace(' ', '-')}.log"
    with ExitStack() as stack:
        server = Server(command, port=port, health=system.ready or system.health, threads=plan.threads, log=log)
        stack.enter_context(server)
        started = server.wait()
        library = None
        if system.own:
            artifact = open_artifact(plan.files.artifact)
            library = stack.enter_context(Process(artifact, plan.files.precision, plan.threads, {}))
        requests = Requests(system, plan.files.query_prompt)
        return asyncio.run(play(plan, server, requests, texts, library, vectors, started))


async def play(
    plan: Plan,
    server: Server,
    requests: Requests,
    texts: Texts,
    library: Process | None,
    vectors: Vectors,
    started: float,
) -> Figures:
    """Check the vectors and run the scenarios on a running server."""
    ground = Ground(server, requests, texts, plan.seconds, plan.bulk_texts, library)
    cosine = await ground.closeness(texts.documents[:CHECKED_TEXTS], vectors)
    if cosine < LEAST_COSINE:
        raise UnavailableError(f"its vectors have a cosine of {cosine:.4f} to quoit's, so it computes something else")
    await ground.capacity()  # warms the server up, and the library below
    if library is not None:
        await ground.ask_library(texts.documents[:CHECKED_TEXTS], query=True)
        await ground.ask_library(texts.documents[:CHECKED_TEXTS])
    for name in plan.scenarios:
        say(f"{requests.system.name}: {name}")
        await run(ground, [name])
    ground.pool.close()
    return {
        "started_seconds": round(started, 2),
        "cosine": round(cosine, 5),
        "memory": memory(ground.samples),
        "memory_samples": thin(ground.samples),
        "scenarios": ground.found,
    }


def reference(artifact: Artifact, plan: Plan) -> Vectors:
    """quoit's vectors of the texts that every server is checked on."""
    texts = Texts(artifact_tokenizer(artifact), CHECKED_TEXTS).documents
    with Embedder(artifact, precision=plan.files.precision, provider="cpu", threads=plan.threads) as embedder:
        return embedder.encode_document([each.text for each in texts])


def artifact_tokenizer(artifact: Artifact) -> Any:
    """The tokenizer that counts tokens."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(artifact.path(artifact.manifest.tokenizer)))


def thin(samples: list[tuple[float, float]], most: int = 200) -> list[list[float]]:
    """At most so many samples, as seconds since the first and MB."""
    step = max(len(samples) // most, 1)
    return [[round(when - samples[0][0], 1), round(value / 1e6, 1)] for when, value in samples[::step]]


def say(words: str) -> None:
    """Tell how far the study is."""
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def folder_of(shape: str, root: Path) -> Path:
    """Folder of a shape's files."""
    return root / "models" / f"bench-serving-{shape}"
