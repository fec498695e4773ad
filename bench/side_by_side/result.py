"""What a result of `python -m bench run` says of its systems: which are faithful, which is fastest, by how much."""

from collections.abc import Callable
from typing import Any

from bench.record import RESULTS

Result = dict[str, Any]
FAITHFUL = 0.99
"""Minimum mean cosine of a system whose speed counts; one below answers another question."""
SIDE_BY_SIDE = RESULTS / "side-by-side.json"
NONE = "–"


def is_faithful(result: Result, name: str) -> bool:
    """Whether a system's vectors are those of the checkpoint, nearly; one that was not compared is not."""
    return bool(result["systems"][name].get("cosine", {"mean": 0})["mean"] >= FAITHFUL)


def is_quoit(name: str) -> bool:
    """Whether a system is quoit, set up some way."""
    return name.startswith("quoit")


def throughputs(result: Result, threads: str) -> dict[str, dict[str, Any]]:
    """The workloads of many texts, with the figures of each system."""
    return {
        name: figures
        for name, figures in result["speed"][threads].items()
        if any("tokens_per_second" in each for each in figures.values())
    }


def ratio(figures: dict[str, Any], one: str, other: str) -> float:
    """By how much one system is faster than another in a workload, both measured against the anchor's rounds."""
    return float(figures[other]["anchor_times_faster"] / figures[one]["anchor_times_faster"])


def best(figures: dict[str, Any], admitted: Callable[[str], bool]) -> str | None:
    """The fastest of the admitted systems."""
    names = [name for name in figures if admitted(name) and "anchor_times_faster" in figures[name]]
    return min(names, key=lambda name: float(figures[name]["anchor_times_faster"]), default=None)


def rivals_of(result: Result, workload: str, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of faithful rivals; a reranker of transformers is the reference itself."""
    rerank = result["workloads"][workload]["kind"] == "rerank"
    return {n: each for n, each in figures.items() if not is_quoit(n) and (rerank or is_faithful(result, n))}


def mixed(result: Result, threads: str) -> str:
    """The largest of the mixes that most systems ran."""
    speed = result["speed"][threads]
    return max(("mix of 200", "mix of 1000"), key=lambda name: (len(speed.get(name, {})), name == "mix of 1000"))


def on(threads: str) -> str:
    """So many threads, in words."""
    return f"{threads} thread{'s' if threads != '1' else ''}"


def installed(facts: dict[str, Any], _: str) -> float | None:
    """The bytes of a system's environment."""
    found: float | None = facts.get("installed_bytes")
    return found


def cold_memory(facts: dict[str, Any], threads: str) -> float | None:
    """The most resident bytes of a fresh process that embedded a few texts."""
    found: float | None = facts.get("cold", {}).get(threads, {}).get("memory", {}).get("peak")
    return found


def closeness(result: Result, name: str) -> str:
    """Mean and least cosine, in words."""
    found = result["systems"][name].get("cosine")
    return NONE if found is None else f"{found['mean']:.4f}, {found['least']:.4f}"
