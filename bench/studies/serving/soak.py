"""Minutes of mixed load on quoit's server, and a signal to end in full flight.

    python -m bench.studies.serving.soak [--minutes 10] [--shape small] [--load 0.5] [--out FOLDER]

Requests of every dialect and of many sizes come at times fixed in advance, at a share of what the server bears. A tenth
of the clients give up, and some bodies are wrong. At the end, while bulk requests and many single ones are being
answered, the process gets SIGTERM. Checked are: every answer has the status that its request deserves; no connection is
lost before its answer; the server ends with 0; its memory does not grow. Writes soak.json and memory.svg to the
folder, by default below .bench/serving. The last line is the JSON; the exit code is 1 if a check fails.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from bench.record import ROOT, add_trial, begin
from bench.studies.serving.figures import Figures, memory, spread, summary
from bench.studies.serving.ground import Ground
from bench.studies.serving.load import Job, Record, open_loop
from bench.studies.serving.plot import memory_picture
from bench.studies.serving.process import END_SECONDS, Server, free_port
from bench.studies.serving.study import LOGS, artifact_tokenizer, folder_of, thin
from bench.studies.serving.systems import OWN, Files, Requests, make_files
from bench.studies.serving.texts import Text, Texts
from bench.studies.serving.wire import request
from quoit.artifact import open_artifact

QUITTERS = 0.1
QUITTER_SECONDS = (0.005, 0.5)
"""Bounds of the seconds after which such a client gives up."""
PATIENCE = 60.0
WARM_UP_SHARE = 0.1
"""Share of the time after which memory is expected to stay."""
MOST_GROWTH = 1.0
"""Most MB a minute that memory may grow after that."""
LEAST_SECONDS = 300.0
"""Least seconds of a soak whose slope of memory means something: caches and arenas fill at first."""
FLIGHT_BULK, FLIGHT_SINGLES, FLIGHT_TEXTS = 3, 32, 300
"""Requests that are being answered when the signal comes, and the texts of each of the bulk ones."""
SIGNAL_SECONDS = 0.3
"""Seconds from those requests to the signal."""
BAD = "bad"
"""Beginning of the kinds of requests that deserve a status of 4xx."""
MIXED_TEXTS = 6.0
"""About the texts of a request of the mix; the rate follows from it."""


class Mix:
    """Requests of every dialect, drawn by a generator with a seed."""

    def __init__(self, texts: Texts, seed: int = 0) -> None:
        self.texts, self.random = texts, Random(seed)
        self.kinds = {
            "openai": 30,
            "openai many": 6,
            "openai base64": 6,
            "tei": 8,
            "tei similarity": 3,
            "tei tokenize": 3,
            "tei rerank": 3,
            "cohere": 5,
            "cohere rerank": 3,
            "ollama": 8,
            "jina rerank": 3,
            "bad json": 3,
            "bad type": 3,
            "bad empty": 3,
            "bad path": 2,
            "bad media": 2,
            "bad ids": 2,
        }

    def job(self) -> Job:
        """The next request."""
        (kind,) = self.random.choices(list(self.kinds), list(self.kinds.values()))
        patience = self.random.uniform(*QUITTER_SECONDS) if self.random.random() < QUITTERS else PATIENCE
        if kind.startswith(BAD):
            return Job(self.bad(kind), 0, 0, patience, kind)
        path, body, texts = self.good(kind)
        return Job(
            request(path, json.dumps(body).encode()), len(texts), sum(each.tokens for each in texts), patience, kind
        )

    def good(self, kind: str) -> tuple[str, Any, list[Text]]:
        """A request that deserves an answer: path, body and texts."""
        many = self.texts.take(self.random.choice((16, 32, 64)))
        few = self.texts.take(self.random.choice((1, 1, 2, 5)))
        query = self.texts.query()
        words, listed = [each.text for each in few], [each.text for each in many]
        ranked = {"query": query.text, "documents": words}
        found: dict[str, tuple[str, Any, list[Text]]] = {
            "openai": ("/v1/embeddings", {"model": "m", "input": query.text, "input_type": "query"}, [query]),
            "openai many": ("/v1/embeddings", {"model": "m", "input": listed}, many),
            "openai base64": ("/v1/embeddings", {"model": "m", "input": words, "encoding_format": "base64"}, few),
            "tei": ("/embed", {"inputs": words, "truncate": True}, few),
            "tei similarity": ("/similarity", {"inputs": {"source_sentence": query.text, "sentences": words}}, few),
            "tei tokenize": ("/tokenize", {"inputs": words}, few),
            "tei rerank": ("/rerank", {"query": query.text, "texts": words, "return_text": True}, few),
            "cohere": (
                "/v2/embed",
                {"model": "m", "texts": words, "input_type": "search_document", "embedding_types": ["float", "int8"]},
                few,
            ),
            "cohere rerank": ("/v2/rerank", {"model": "m", **ranked, "top_n": 2, "max_tokens_per_doc": None}, few),
            "ollama": ("/api/embed", {"model": "m", "input": words, "options": {}, "keep_alive": -1}, few),
            "jina rerank": ("/v1/rerank", {"model": "m", **ranked, "return_documents": "true"}, few),
        }
        return found[kind]

    def bad(self, kind: str) -> bytes:
        """A request that deserves a refusal."""
        return {
            "bad json": request("/v1/embeddings", b'{"input": ["cut off'),
            "bad type": request("/v1/embeddings", b'{"model": "m", "input": {"text": 3}}'),
            "bad empty": request("/v1/embeddings", b'{"model": "m", "input": []}'),
            "bad path": request("/v1/chat/completions", b'{"messages": []}'),
            "bad media": request("/embed", b"inputs=text", {"content-type": "application/x-www-form-urlencoded"}),
            "bad ids": request("/v1/embeddings", b'{"model": "m", "input": [[15339, 1917]]}'),
        }[kind]

    def at_a_rate(self, each_second: float, seconds: float) -> Iterator[tuple[float, Job]]:
        """Requests at random times that are fixed in advance (a Poisson process)."""
        when = 0.0
        while (when := when + self.random.expovariate(each_second)) < seconds:
            yield when, self.job()


async def soak(ground: Ground, seconds: float, load: float) -> Figures:
    """The mixed load, the signal, and what the checks say."""
    mix = Mix(ground.texts)
    capacity = await ground.capacity()
    rate = load * capacity["requests_per_second"] / MIXED_TEXTS
    async with ground.watched() as watch:
        records = await open_loop(ground.pool, mix.at_a_rate(rate, seconds))
        counters = await ground.counters()
        before_the_end = len(ground.samples)
        flight, late, ended = await end_in_flight(ground, mix, rate)
    kinds = sorted({record.kind for record in records})
    begin = ground.samples[0][0] + seconds * WARM_UP_SHARE
    grown = memory([sample for sample in ground.samples[:before_the_end] if sample[0] > begin])
    found: Figures = {
        "seconds": seconds,
        "requests_per_second": round(rate, 2),
        "all": summary(records),
        "by_kind": {kind: brief([each for each in records if each.kind == kind]) for kind in kinds},
        "in_flight": brief(flight),
        "after_the_signal": brief(late),
        "ended": ended,
        "memory_steady": grown,
        "dropped": {name: value for name, value in counters.items() if "dropped" in name and "created" not in name},
        "health_ms": watch["health_ms"],
        "memory_samples": thin([sample for sample in ground.samples if sample[1] > 0]),
    }
    return found | {"failures": failures(records, flight, late, found)}


async def end_in_flight(ground: Ground, mix: Mix, rate: float) -> tuple[list[Record], list[Record], Figures]:
    """Send bulk and single requests, then the signal; more requests come until the process has ended."""
    loop = asyncio.get_running_loop()
    jobs = [ground.documents(FLIGHT_TEXTS, "flight") for _ in range(FLIGHT_BULK)]
    jobs += [ground.documents(1, "flight") for _ in range(FLIGHT_SINGLES)]
    flying = asyncio.create_task(open_loop(ground.pool, [(0.0, job) for job in jobs]))
    await asyncio.sleep(SIGNAL_SECONDS)
    begin = loop.time()
    ground.server.terminate()
    after = asyncio.create_task(open_loop(ground.pool, mix.at_a_rate(rate, 2.0)))
    flight = await flying
    late = await after
    code = await asyncio.to_thread(ground.server.process.wait, END_SECONDS)
    waiting = sum(record.done > begin for record in flight)
    ended = {"code": code, "seconds": round(loop.time() - begin, 2), "answered_after_the_signal": waiting}
    return flight, late, ended


def failures(records: list[Record], flight: list[Record], late: list[Record], found: Figures) -> list[str]:
    """What is not as it has to be, in words."""
    wrong = Counter(
        f"{record.kind}: {record.outcome} {record.status}" for record in records if not deserved(record, ending=False)
    )
    wrong.update(f"in flight: {each.outcome} {each.status}" for each in flight if each.outcome != "answered")
    wrong.update(f"late {each.kind}: {each.outcome} {each.status}" for each in late if not deserved(each, ending=True))
    told = [f"{words} ({count} times)" for words, count in wrong.items()]
    if found["ended"]["code"] != 0:
        told.append(f"the server ended with {found['ended']['code']}")
    growth = found["memory_steady"].get("mb_per_minute", 0.0)
    if growth > MOST_GROWTH and found["seconds"] >= LEAST_SECONDS:
        told.append(f"memory grows by {growth:.2f} MB a minute")
    return told


def deserved(record: Record, *, ending: bool) -> bool:
    """Whether a request met what it deserved. A server that ends may refuse; it may not lose what it began."""
    if record.outcome == "gave up" or record.status == 429:
        return record.outcome != "gave up" or record.patience < PATIENCE
    if ending and (record.outcome == "refused" or record.status == 503):
        return True
    if record.kind.startswith(BAD):
        return 400 <= record.status < 500
    return record.outcome == "answered"


def brief(records: list[Record]) -> Figures:
    """Counts and latency."""
    outcomes = Counter(f"{record.outcome} {record.status or ''}".strip() for record in records)
    return {"outcomes": dict(outcomes), "ms": spread([each.latency for each in records if each.outcome == "answered"])}


def run(
    files: Files, *, seconds: float, load: float, threads: int, port: int | None, most_texts: int | None
) -> Figures:
    """Start the server, and soak it."""
    texts = Texts(artifact_tokenizer(open_artifact(files.artifact)), most_texts)
    port = port or free_port()
    command = OWN.command(files, port, threads)
    with Server(command, port=port, health=OWN.ready or "", threads=threads, log=LOGS / "soak.log") as server:
        server.wait()
        ground = Ground(server, Requests(OWN, files.query_prompt), texts, min(seconds, 12.0), FLIGHT_TEXTS)
        return asyncio.run(soak(ground, seconds, load))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Minutes of mixed load, and a signal to end in full flight.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--shape", choices=("small", "tiny", "0.6b"), default="small")
    parser.add_argument("--load", type=float, default=0.5, help="share of what the server bears")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--port", type=int, help="port of the server (default: a free one)")
    parser.add_argument("--out", type=Path, default=LOGS, help="folder of soak.json and memory.svg")
    add_trial(parser)
    options = parser.parse_args()
    recording = begin(trial=options.trial)
    files = make_files(options.shape, folder_of(options.shape, ROOT))
    result = recording.describe(options.threads) | run(
        files,
        seconds=options.minutes * 60,
        load=options.load,
        threads=options.threads,
        port=options.port,
        most_texts=None,
    )
    recording.write(options.out / "soak.json", result)
    memory_picture(result["memory_samples"], options.out / "memory")
    print("\n".join(result["failures"]) or "every check passed")
    print(json.dumps(result))
    sys.exit(bool(result["failures"]))


if __name__ == "__main__":
    main()
