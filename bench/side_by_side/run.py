"""`python -m bench run`: prepares systems, measures what is missing, and writes the result."""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from bench.environments import UnavailableError, installed_bytes
from bench.record import ROOT, WORK, Recording, add_trial, begin
from bench.side_by_side.measure import CHECKED_TEXTS, Plan, cold_starts, measure, say
from bench.side_by_side.profile import profile
from bench.side_by_side.store import Store
from bench.side_by_side.summary import summarise
from bench.side_by_side.systems import ANCHOR, SYSTEMS, Files, System
from bench.side_by_side.workloads import Workload, workloads
from quoit.artifact import Precision, Task, read_artifact
from quoit.tuning.roofline import measure_ceilings

SHAPE = WORK / "checkpoints"
COLD = "cold start"
MEMORY_SHARE = 0.6
PROFILED_TEXTS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--checkpoint", type=Path, help="an embedding checkpoint (default: the 0.6B shape, written)")
    parser.add_argument("--reranker", type=Path, help="a reranker's checkpoint (default: likewise, with the former)")
    parser.add_argument("--systems", nargs="+", help=f"default: all of {', '.join(each.name for each in SYSTEMS)}")
    parser.add_argument("--workloads", nargs="+", help=f"names as in the tables, or {COLD!r}; default: all")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, help="at most so many of each workload")
    parser.add_argument(
        "--seconds", type=float, default=300, help="of a system on one workload; slow ones get 2 rounds"
    )
    parser.add_argument("--gigabytes", type=float, help="for systems at rest together (default: 60 %% of what is free)")
    parser.add_argument("--label", default="run", help="measurements under another label are apart (default: run)")
    parser.add_argument("--prepare", action="store_true", help="make environments and models, measure nothing")
    add_trial(parser)
    parser.add_argument("--out", type=Path, help="the result (default: beside the raw measurements)")


def written(task: Task) -> Path:
    """The checkpoint of the 0.6B shape with random weights, written once."""
    folder = SHAPE / ("shape-0.6b" if task == "embedding" else "shape-0.6b-reranker")
    script = [sys.executable, str(ROOT / "models" / "random_checkpoint.py"), str(folder)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*script, "--shape", "0.6b", "--task", task], check=True)
    return folder


def chosen(names: list[str] | None) -> list[System]:
    """The systems by name, the anchor always among them."""
    known = {system.name: system for system in SYSTEMS}
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise SystemExit(f"unknown system {unknown[0]!r}; choose of {', '.join(known)}")
    return [system for system in SYSTEMS if names is None or system.name in {ANCHOR, *names}]


def prepare(systems: list[System], files: Files, store: Store) -> dict[str, tuple[System, dict[str, Any]]]:
    """The systems that can do the task and have their environment and files; reasons of the others are kept."""
    ready: dict[str, tuple[System, dict[str, Any]]] = {}
    for system in systems:
        if files.task not in system.tasks:
            continue
        when = f"{files.task}, setting up"
        try:
            ready[system.name] = system, system.config(files)
        except UnavailableError as error:
            say(f"{system.name} cannot run: {error}")
            store.explain(system.name, when, str(error))
            continue
        store.explain(system.name, when, None)
        sources = sum(file.stat().st_size for file in (ROOT / "runtime" / "quoit").rglob("*.py"))
        own = sources if system.environment == "quoit" else 0
        store.learn(system.name, installed_bytes=installed_bytes(system.environment) + own)
    return ready


def run(options: argparse.Namespace) -> None:
    """The command."""
    recording = begin(trial=options.trial)
    embedding = options.checkpoint or written("embedding")
    reranker = options.reranker or (None if options.checkpoint else written("rerank"))
    files = [Files(embedding.resolve(), "embedding"), *([Files(reranker.resolve(), "rerank")] if reranker else [])]
    store = open_store(files[0].folder, options.label, recording)
    systems = chosen(options.systems)
    every = workloads(Tokenizer.from_file(str(embedding / "tokenizer.json")))
    names = options.workloads or [*every, COLD]
    unknown = [name for name in names if name not in every and name != COLD]
    if unknown:
        raise SystemExit(f"unknown workload {unknown[0]!r}; choose of {', '.join([*every, COLD])}")
    scored = any(name in every and every[name].kind == "rerank" for name in names)
    for part in files:
        if part.task == "rerank" and not scored:
            continue
        ready = prepare(systems, part, store)
        if ANCHOR not in ready:
            raise SystemExit(f"{ANCHOR} cannot run, and nothing is measured without it; see above")
        for threads in () if options.prepare else options.threads:
            if part.task == "embedding":
                measure_machine(part, store, every["mix of 200"], threads)
            plan = make_plan(part.task, ready, every, names, threads, options)
            if part.task == "embedding" and COLD in names:
                cold_starts(plan, store, every["query"])
            if plan.workloads:
                measure(plan, store, part.weight_bytes)
    out = options.out or store.folder / "result.json"
    print(recording.write(out, summarise(store, every, files, recording)))


def open_store(folder: Path, label: str, recording: Recording) -> Store:
    """The raw measurements under a label; a trial has its own, so that no result takes rounds of a changed tree."""
    store = Store(folder / (f"trial-{label}" if recording.trial else label))
    store.folder.mkdir(parents=True, exist_ok=True)
    store.learn("commits", kind="measured", **{recording.commit: time.strftime("%Y-%m-%d")})
    return store


def measure_machine(files: Files, store: Store, mix: Workload, threads: int) -> None:
    """The machine's ceilings with so many threads and quoit's profile on the first texts of the mix, once."""
    if str(threads) in store.facts("machine"):
        return
    artifact = read_artifact(files.folder / "artifact")
    ceilings = msgspec.to_builtins(measure_ceilings(artifact.manifest.costs, threads))
    precisions: tuple[Precision, ...] = ("int8", "fp32")
    profiles = {each: profile(artifact, each, mix.texts[:PROFILED_TEXTS], threads) for each in precisions}
    store.learn(str(threads), kind="machine", ceilings=ceilings, profile=profiles)
    say(f"{threads} threads: {ceilings}")


def make_plan(
    task: Task,
    ready: dict[str, tuple[System, dict[str, Any]]],
    every: dict[str, Workload],
    names: list[str],
    threads: int,
    options: argparse.Namespace,
) -> Plan:
    """What is measured of one task with so many threads."""
    mine = [
        every[name]
        for name in names
        if name in every
        and (every[name].kind == "rerank") == (task == "rerank")
        and (threads == max(options.threads) or not every[name].long)
    ]
    if task == "embedding":
        mix = every["mix of 200"]
        check = Workload("check", "document", mix.texts[:CHECKED_TEXTS], mix.lengths[:CHECKED_TEXTS])
    else:
        pairs = next(workload for workload in every.values() if workload.kind == "rerank")
        check = Workload("check rerank", "rerank", pairs.texts[:20], pairs.lengths[:20])
    systems = {name: found for name, found in ready.items() if threads > 1 or not found[0].several}
    free = options.gigabytes * 1e9 if options.gigabytes else MEMORY_SHARE * available_bytes()
    return Plan(systems, mine, check, threads, options.rounds, options.seconds, free)


def available_bytes() -> int:
    """The memory that Linux says programs can still have."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024
