"""The 4B and 8B shapes on a small machine: export to int8 in a few GB of memory, then load and embed.

    python -m bench.studies.large_models 4b|8b [--threads 2] [--keep]

Writes a sharded checkpoint of the shape with random weights and the genuine tokenizer below models/bench-<shape>,
exports int8 in a process of its own, and loads what was written in a fresh one for each way of opening the session.
Needs 13 GB of disk for 4B and 25 GB for 8B, which are given back at the end unless --keep is said. Writes its shape's
part of bench/results/large-models.json. Random weights have the speed and the size of real ones, not their meaning. The
last line is the JSON.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import KIB, RESULTS, ROOT, add_trial, begin
from quoit import Embedder
from quoit.artifact import read_artifact
from quoit.ort import session
from quoit.ort.sessions import open_session
from quoit_export import cli
from quoit_export.build import variants
from quoit_export.build.staging import Staging
from quoit_export.verify.parity import Sample, parity_texts, variant_answers

RESULT = RESULTS / "large-models.json"
PHASES: dict[str, tuple[Any, str]] = {
    "open": (cli, "open_checkpoint"),
    "reference": (variants.Making, "_refer"),
    "rank": (variants, "rank_methods"),
    "refine": (variants.Making, "_refine"),
    "write": (Staging, "write_variant"),
    "measure": (variants.Making, "_measure"),
}
"""The parts of an export, and the functions that they are. `open` hashes the checkpoint, `reference` runs fp32 for its
answers and what its layers read, `rank` compares methods, `refine` tries second passes, `write` hashes what was
written, and `measure` hashes it again and runs it."""
WAYS: dict[str, dict[str, str]] = {
    "default": {},
    "no prepacking": {"session.disable_prepacking": "1"},
    "initializers outside the arena": {"session.use_device_allocator_for_initializers": "1"},
}
QUERY = "What is the capital of China?"
TEXTS = 16
ROUNDS = 3


def memory() -> dict[str, int]:
    """This process's resident bytes: now, of that anonymous and mapped from files, and at most since `forget_peak`."""
    names = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "mapped", "VmHWM": "peak"}
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {names[key]: int(value.split()[0]) * KIB for key, _, value in lines if key in names}


def forget_peak() -> None:
    """Linux then counts the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def timed(function: Callable[..., Any], record: dict[str, float]) -> Callable[..., Any]:
    """A function that adds up its seconds and notes its peak."""

    def run(*arguments: Any, **options: Any) -> Any:
        forget_peak()
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            record["seconds"] = round(record.get("seconds", 0) + time.perf_counter() - start, 1)
            record["peak_bytes"] = max(record.get("peak_bytes", 0), memory()["peak"])

    return run


def export_here(checkpoint: str, artifact: str) -> dict[str, Any]:
    """Exports int8 within this process; -> seconds and peak resident bytes of each phase."""
    phases: dict[str, dict[str, float]] = {name: {} for name in PHASES}
    for name, (owner, function) in PHASES.items():
        setattr(owner, function, timed(getattr(owner, function), phases[name]))
    total: dict[str, float] = {}
    if timed(cli.main, total)([checkpoint, artifact, "--precision", "int8"]):
        raise SystemExit(f"the export of {checkpoint} failed")
    peaks = [total["peak_bytes"], *(phase.get("peak_bytes", 0) for phase in phases.values())]
    return {"seconds": total["seconds"], "peak_bytes": max(peaks), "phases": phases}


def load_here(artifact: str, threads: str, way: str) -> dict[str, Any]:
    """Loads int8 within this process and embeds; -> seconds, tokens/s and resident bytes."""

    def open_this_way(*arguments: Any, config: Mapping[str, str] | None = None, **options: Any) -> Any:
        return open_session(*arguments, config={**(config or {}), **WAYS[way]}, **options)

    session.open_session = open_this_way  # type: ignore[attr-defined]
    forget_peak()
    start = time.perf_counter()
    embedder = Embedder(artifact, precision="int8", provider="cpu", threads=int(threads))
    result: dict[str, Any] = {"load_seconds": time.perf_counter() - start, "loaded": memory()}
    embedder.encode_query(QUERY)
    result["first_query_seconds"] = time.perf_counter() - start
    texts = parity_texts()[:TEXTS]
    tokens = next(embedder.encode_windows(texts)).tokens
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        embedder.encode_query(QUERY)
        middle = time.perf_counter()
        vectors = embedder.encode_document(texts)
        seconds.append((middle - start, time.perf_counter() - middle))
    query, documents = np.median(seconds, axis=0)
    result |= {
        "query_seconds": float(query),
        "texts": {"texts": TEXTS, "tokens": tokens, "tokens_per_second": round(tokens / float(documents), 1)},
        "used": memory(),
    }
    if way == "default":
        graph = embedder.pipeline.session.graph
        del embedder
        measured = variant_answers(read_artifact(artifact), "int8", [Sample("first", texts)], graph)[0]
        result["same_bits_as_measured"] = bool((measured == vectors).all())
    return result


def in_a_process(*arguments: str) -> dict[str, Any]:
    """What this script says on its last line when it is called with these arguments."""
    command = [sys.executable, "-m", "bench.studies.large_models", *arguments]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(shape: str, folder: Path, threads: int) -> dict[str, Any]:
    """Everything about a shape."""
    checkpoint, artifact = folder / "checkpoint", folder / "artifact"
    script = ROOT / "models" / "random_checkpoint.py"
    subprocess.run([sys.executable, str(script), str(checkpoint), "--shape", shape], check=True)
    result: dict[str, Any] = {
        "checkpoint": {
            "bytes": sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")),
            "shards": len(list(checkpoint.glob("*.safetensors"))),
        },
        "export": in_a_process("export", str(checkpoint), str(artifact)),
    }
    variant = read_artifact(artifact).manifest.variants["int8"]
    result["int8"] = {
        "bytes": sum(record.bytes for record in variant.files),
        "made": variant.quantization.describe() if variant.quantization else None,
        "cosine_to_fp32": {
            f"{one.texts}{one.note}": {"texts": one.samples, "mean": one.mean, "least": one.minimum}
            for one in variant.parity
            if one.measure == "cosine"
        },
    }
    shutil.rmtree(checkpoint)
    result["load"] = {way: in_a_process("load", str(artifact), str(threads), way) for way in WAYS}
    return result


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["export"]:
        print(json.dumps(export_here(*sys.argv[2:])))
        return
    if sys.argv[1:2] == ["load"]:
        print(json.dumps(load_here(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description="Export and load the 4B and 8B shapes.")
    parser.add_argument("shape", choices=("tiny", "4b", "8b"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", action="store_true")
    add_trial(parser)
    options = parser.parse_args()
    recording = begin(trial=options.trial)
    folder = ROOT / "models" / f"bench-{options.shape}"
    folder.mkdir(exist_ok=True)
    result = recording.describe(options.threads) | measure(options.shape, folder, options.threads)
    if not options.keep:
        shutil.rmtree(folder)
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    print(json.dumps(result))
    recording.write(RESULT, known | {options.shape: result})


if __name__ == "__main__":
    main()
