"""From raw rounds to the figures of the report: medians, quartiles, ratios round by round, cosines.

This module does not know how anything was measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.record import Recording
from bench.side_by_side.limits import add_fractions, works
from bench.side_by_side.store import Round, Store
from bench.side_by_side.systems import ANCHOR, REFERENCE, SYSTEMS, Files
from bench.side_by_side.workloads import Workload
from quoit.artifact import read_artifact

Figures = dict[str, Any]
PERCENTILES = (50, 95, 99)


def summarise(store: Store, workloads: dict[str, Workload], files: Sequence[Files], recording: Recording) -> Figures:
    """The result: everything that the report shows, and what it was measured with."""
    rounds = store.rounds()
    threads = sorted({measured["threads"] for measured in rounds}, reverse=True)
    facts = store.facts()
    names = [system.name for system in SYSTEMS if system.name in facts]
    return recording.describe(max(threads, default=0)) | {
        "commits": store.facts("measured").get("commits", {}),
        "anchor": ANCHOR,
        "reference": REFERENCE,
        "checkpoints": {part.task: describe_checkpoint(part) for part in files},
        "workloads": {
            name: {"kind": each.kind, "texts": len(each.texts), "tokens": each.tokens, "lengths": spread(each.lengths)}
            for name, each in workloads.items()
        },
        "systems": {name: facts[name] | closeness(store, name) for name in names},
        "limits": store.facts("machine"),
        "disturbance": disturbance(rounds),
        "speed": {str(number): speeds(store, number, workloads, files) for number in threads},
    }


def disturbance(rounds: Sequence[Round]) -> Figures:
    """Of a core, the most that systems at rest took during a turn; and the machine's load after rounds."""
    shares = [
        measured["others"][name] / sum(measured["seconds"][name])
        for measured in rounds
        for name in measured.get("others", {})
    ]
    loads = [measured["load"] for measured in rounds if "load" in measured]
    found: Figures = {}
    if shares and loads:
        found = {"others": round(max(shares), 4), "load": [round(float(v), 2) for v in np.quantile(loads, [0, 0.5, 1])]}
    return found


def speeds(store: Store, threads: int, workloads: dict[str, Workload], files: Sequence[Files]) -> Figures:
    """By workload and system: its figures on so many threads, quoit's with their distance from the limit."""
    ceilings = store.facts("machine").get(str(threads), {}).get("ceilings")
    rounds = [measured for measured in store.rounds() if measured["threads"] == threads]
    found: Figures = {}
    for name, workload in workloads.items():
        figures = compare([measured for measured in rounds if measured["workload"] == name], workload)
        task = "rerank" if workload.kind == "rerank" else "embedding"
        folders = [part.folder / "artifact" for part in files if part.task == task]
        if figures and folders and ceilings:
            add_fractions(figures, works(read_artifact(folders[0]), workload), ceilings)
        if figures:
            found[name] = figures
    return found


def describe_checkpoint(files: Files) -> Figures:
    """Its name, architecture and size."""
    config = files.config
    numbers = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
    return {"name": files.folder.name, "bytes": files.weight_bytes} | {name: config[name] for name in numbers}


def spread(values: Sequence[int]) -> list[int]:
    """Least, median and most."""
    return [min(values), int(np.median(values)), max(values)]


def compare(rounds: list[Round], workload: Workload) -> dict[str, Figures]:
    """By system: its figures in rounds of one workload."""
    names = [system.name for system in SYSTEMS if any(system.name in measured["seconds"] for measured in rounds)]
    return {name: figures_of(name, rounds, workload) for name in names}


def figures_of(name: str, rounds: list[Round], workload: Workload) -> Figures:
    """One system's figures: speed or latency, and how much faster the anchor was just before and after it."""
    mine = [measured for measured in rounds if name in measured["seconds"]]
    calls = len(workload.texts) if workload.apart else 1
    spent = np.array([np.mean(measured["seconds"][name]) * calls for measured in mine])
    figures: Figures = {"rounds": len(mine), "seconds": float(np.median(spent))}
    if workload.apart:
        figures |= latencies(np.concatenate([measured["seconds"][name] for measured in mine]), workload)
    else:
        low, middle, high = np.quantile(workload.tokens / spent, [0.25, 0.5, 0.75])
        figures |= {
            "tokens_per_second": round(float(middle), 1),
            "quartiles": [round(float(low), 1), round(float(high), 1)],
        }
    anchors = [measured.get("beside", {}).get(name, measured["seconds"][ANCHOR]) for measured in mine]
    times = spent / calls / [np.mean(seconds) for seconds in anchors]
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    figures["anchor_times_faster"] = round(float(middle), 3)
    figures["anchor_times_faster_quartiles"] = [round(float(low), 3), round(float(high), 3)]
    return figures


def latencies(seconds: NDArray[np.float64], workload: Workload) -> Figures:
    """Milliseconds: percentiles over all calls, and the median of each length where there are few."""
    by_text = seconds.reshape(-1, len(workload.texts))
    return {
        "milliseconds": {f"p{p}": round(float(np.percentile(seconds, p)) * 1e3, 3) for p in PERCENTILES},
        "by_length": [
            [length, round(float(median) * 1e3, 3)]
            for length, median in zip(workload.lengths, np.median(by_text, axis=0), strict=True)
        ],
        "calls": len(seconds),
    }


def closeness(store: Store, name: str) -> Figures:
    """Mean and least cosine of a system's vectors to the reference's, and the correlation of its scores."""
    found: Figures = {}
    reference, mine = (store.vectors(f"check {each}") for each in (REFERENCE, name))
    if reference.is_file() and mine.is_file():
        values = cosines(read(mine), read(reference))
        found["cosine"] = {"mean": float(values.mean()), "least": float(values.min()), "texts": len(values)}
    reference, mine = (store.vectors(f"check rerank {each}") for each in (REFERENCE, name))
    if reference.is_file() and mine.is_file():
        distance = np.abs(read(mine) - read(reference))
        found["p_yes_distance"] = {"mean": float(distance.mean()), "most": float(distance.max())}
    return found


def read(file: Path) -> NDArray[np.float64]:
    """An array in double precision."""
    values: NDArray[np.float64] = np.load(file, allow_pickle=False).astype(np.float64)
    return values


def cosines(found: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cosine of each row to the reference's; 0 where they have not as many dimensions."""
    if found.shape != reference.shape:
        return np.zeros(len(reference))
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
    values: NDArray[np.float64] = (found * reference).sum(axis=1) / norms
    return values
