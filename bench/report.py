"""`python -m bench report`: one Markdown page with tables and plots from a result of `python -m bench run`.

Where quoit is not first, or a target is missed, the page says so at its top. This module does not measure.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.record import RESULTS

Result = dict[str, Any]
FAITHFUL = 0.99
"""A system whose mean cosine is below answers another question; its speed is shown and counts for nothing."""
SIDE_BY_SIDE = RESULTS / "side-by-side.json"
NONE = "–"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--result", type=Path, default=SIDE_BY_SIDE)
    parser.add_argument("--table", action="store_true", help="print the README's table and write nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / "side-by-side", help="a folder for REPORT.md and plots")


def run(options: argparse.Namespace) -> None:
    """The command."""
    result = json.loads(options.result.read_text())
    if options.table:
        print("\n".join(side_by_side_table(result)))
        return
    from bench.plots import draw

    options.out.mkdir(parents=True, exist_ok=True)
    plots = draw(result, options.out)
    (options.out / "REPORT.md").write_text(page(result, plots), encoding="utf-8")
    print(options.out / "REPORT.md")


def page(result: Result, plots: dict[str, str]) -> str:
    """The page."""
    machine, checkpoint = result["machine"], result["checkpoints"]["embedding"]
    parts: list[list[str]] = [
        ["# Side by side", "", *verdicts(result)],
        [
            f"Checkpoint {checkpoint['name']} ({checkpoint['num_hidden_layers']} layers, {checkpoint['hidden_size']} "
            f"hidden, {checkpoint['bytes'] / 1e9:.2f} GB in bfloat16), {machine['cpu']}, commit {result['commit']}, "
            f"{result['date']}. Every system works on the same texts and weights, in its own process and environment; "
            "they take turns, and a ratio is the median of those of each round. bench/README.md has the method.",
            *rest(result),
        ],
        *([f"![{title}]({file})"] for title, file in plots.items()),
    ]
    for threads in result["speed"]:
        parts.append([f"## {on(threads)}", "", *speed_table(result, threads)])
        parts.append(["Milliseconds of one query with its instruction:", "", *latency_table(result, threads)])
    parts.append(["## What else it takes", "", *cost_table(result)])
    parts.append(["## Distance from the limit", "", *limit_table(result)])
    parts.append(["## What could not run", "", *reasons(result)])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def rest(result: Result) -> Iterator[str]:
    """How quiet the machine was."""
    found = result.get("disturbance")
    if found:
        low, middle, high = found["load"]
        yield (
            f"Systems at rest took at most {found['others']:.1%} of a core during another's turn; the machine's load "
            f"was {low}, {middle} and {high} (least, median, most)."
        )


def titled(columns: list[str]) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def row(cells: list[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


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


def verdicts(result: Result) -> list[str]:
    """Where quoit is not first, whose vectors keep the faster from counting, and each target, met or missed."""
    behind = [line for threads in result["speed"] for line in lost(result, threads)]
    faster = [line for threads in result["speed"] for line in unfaithful(result, threads)]
    lines = ["**Where quoit is not first:**", "", *behind] if behind else ["No rival that keeps the vectors is faster."]
    if faster:
        lines += [
            "",
            f"Faster, with a mean cosine below {FAITHFUL} or none measured, which does not count:",
            "",
            *faster,
        ]
    return [*lines, "", *titled(["target", "measured", ""]), *(row(cells) for cells in targets(result))]


def lost(result: Result, threads: str) -> Iterator[str]:
    """A line for each workload in which a faithful rival is faster than the best of quoit."""
    for workload, figures in result["speed"][threads].items():
        ours, rivals = best(figures, is_quoit), rivals_of(result, workload, figures)
        theirs = best(rivals, lambda _: True)
        if ours and theirs and ratio(figures, ours, theirs) < 1:
            yield f"- {workload}, {on(threads)}: {theirs} is {ratio(figures, theirs, ours):.2f} × as fast as {ours}"


def rivals_of(result: Result, workload: str, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of faithful rivals; a reranker of transformers is the reference itself."""
    rerank = result["workloads"][workload]["kind"] == "rerank"
    return {n: each for n, each in figures.items() if not is_quoit(n) and (rerank or is_faithful(result, n))}


def unfaithful(result: Result, threads: str) -> Iterator[str]:
    """A line for each system that is faster than the best of quoit, but not faithful."""
    for workload, figures in result["speed"][threads].items():
        ours, counted = best(figures, is_quoit), rivals_of(result, workload, figures)
        for name in figures:
            if ours and not is_quoit(name) and name not in counted and ratio(figures, ours, name) < 1:
                yield (
                    f"- {workload}, {on(threads)}: {name} is {ratio(figures, name, ours):.2f} × as fast as {ours}; "
                    f"cosine {closeness(result, name)}"
                )


def targets(result: Result) -> Iterator[list[str]]:
    """What quoit's int8 is to reach with the most threads: the words, the figure, and whether it does."""
    threads = next(iter(result["speed"]))
    speed = result["speed"][threads]

    def rival(name: str) -> bool:
        return not is_quoit(name) and is_faithful(result, name)

    def judge(words: str, value: float | None, needed: float) -> list[str]:
        if value is None:
            return [words, "not measured", NONE]
        return [words, f"{value:.2f} ×", "met" if value >= needed else "**missed**"]

    def over(workload: str, admitted: Callable[[str], bool]) -> float | None:
        figures = speed.get(workload, {})
        ours, theirs = best(figures, lambda name: name.startswith("quoit int8")), best(figures, admitted)
        return ratio(figures, ours, theirs) if ours and theirs else None

    mix = mixed(result, threads)
    yield judge(f"{mix}: 2 × the best rival with cosine {FAITHFUL}", over(mix, rival), 2)
    for equal in ("8x128", "8x512"):
        yield judge(f"{equal}: 1.5 × the best such rival", over(equal, rival), 1.5)
    yield judge(f"{mix}: 3 × {result['reference']}", over(mix, lambda name: name == result["reference"]), 3)
    yield judge("query: the best such rival takes 1 / 0.7 = 1.43 × as long", over("query", rival), 1 / 0.7)
    for words, cost in (("smallest installation", installed), ("least memory after a few texts", cold_memory)):
        costs = {name: value for name, facts in result["systems"].items() if (value := cost(facts, threads))}
        ours = min((value for name, value in costs.items() if is_quoit(name)), default=None)
        theirs = min((value for name, value in costs.items() if rival(name)), default=None)
        yield judge(f"{words}: below every such rival's", theirs / ours if ours and theirs else None, 1)


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


def speed_table(result: Result, threads: str) -> list[str]:
    """Tokens per second of every system and workload, and in brackets how many times as fast the anchor was."""
    workloads = throughputs(result, threads)
    names = [name for name in result["systems"] if any(name in figures for figures in workloads.values())]
    lines = titled([f"tokens/s ({result['anchor']} ÷ it)", *workloads, "cosine: mean, least"])
    for name in names:
        cells = []
        for figures in workloads.values():
            each = figures.get(name)
            cells.append(f"{each['tokens_per_second']:,.0f} ({each['anchor_times_faster']:.2f} ×)" if each else NONE)
        lines.append(row([name, *cells, closeness(result, name)]))
    return lines


def latency_table(result: Result, threads: str) -> list[str]:
    """Percentiles of a query's latency."""
    figures = result["speed"][threads].get("query", {})
    lines = titled(["ms", "p50", "p95", "p99", f"{result['anchor']} ÷ it", "calls"])
    for name, each in figures.items():
        times = [f"{value:,.1f}" for value in each["milliseconds"].values()]
        lines.append(row([name, *times, f"{each['anchor_times_faster']:.2f} ×", str(each["calls"])]))
    return lines


def cost_table(result: Result) -> list[str]:
    """Cold start, memory and size on disk."""
    threads = next(iter(result["speed"]))
    lines = titled(["", "first vector", "resident at most, few texts", "after the last run's workloads", "installed"])
    for name, facts in result["systems"].items():
        cold = facts.get("cold", {}).get(threads)
        ran = facts.get("memory", {}).get(f"document, {threads} threads")
        if cold is None and ran is None:
            continue
        starts = f"{sorted(cold['seconds'])[len(cold['seconds']) // 2]:.2f} s" if cold else NONE
        few = f"{cold['memory']['peak'] / 1e9:.2f} GB" if cold else NONE
        all_of_them = f"{ran['peak'] / 1e9:.2f} GB" if ran else NONE
        lines.append(row([name, starts, few, all_of_them, f"{facts['installed_bytes'] / 1e6:,.0f} MB"]))
    return lines


def limit_table(result: Result) -> list[str]:
    """The machine's ceilings, and the fraction that each of quoit's figures reaches."""
    lines = []
    for threads, machine in result["limits"].items():
        ceilings = machine["ceilings"]
        lines.append(
            f"With {on(threads)} this machine reaches {ceilings['int8']:,.0f} int8 GOP/s, "
            f"{ceilings['fp32']:,.0f} float32 GFLOP/s and {ceilings['bandwidth']:,.0f} GB/s. "
            "`quoit.tuning.roofline` says what is counted."
        )
        figures = result["speed"].get(threads, {})
        names = sorted({name for each in figures.values() for name, one in each.items() if "limit" in one})
        lines += ["", *titled(["fraction of the limit", *figures])]
        for name in names:
            limits = [each.get(name, {}).get("limit") for each in figures.values()]
            lines.append(row([name, *(f"{limit['fraction']:.0%}" if limit else NONE for limit in limits)]))
        lines.append("")
    return lines[:-1]


def reasons(result: Result) -> list[str]:
    """What did not run, and why, in the system's own words."""
    lines = [
        row([name, when, f"`{reason.replace('|', '/').replace('`', '')}`"])
        for name, facts in result["systems"].items()
        for when, reason in facts.get("reasons", {}).items()
    ]
    return [*titled(["system", "when", "what it said"]), *lines] if lines else ["Everything ran."]


def side_by_side_table(result: Result) -> list[str]:
    """The README's table: one line a system, with the most threads."""
    threads = next(iter(result["speed"]))
    speed, mix = result["speed"][threads], mixed(result, threads)
    columns = [
        "cosine: mean, least",
        "query p50",
        "8x128",
        "8x512",
        mix,
        f"{result['anchor']} ÷ it",
        "memory",
        "installed",
    ]
    lines = titled([on(threads), *columns])
    for name, facts in result["systems"].items():
        if name not in speed.get(mix, {}):
            continue
        query = speed.get("query", {}).get(name)
        rates = [speed.get(each, {}).get(name) for each in ("8x128", "8x512", mix)]
        memory = cold_memory(facts, threads)
        cells = [
            closeness(result, name),
            f"{query['milliseconds']['p50']:.0f} ms" if query else NONE,
            *(f"{rate['tokens_per_second']:,.0f}" if rate else NONE for rate in rates),
            f"{speed[mix][name]['anchor_times_faster']:.2f} ×",
            f"{memory / 1e9:.2f} GB" if memory else NONE,
            f"{facts['installed_bytes'] / 1e6:,.0f} MB",
        ]
        lines.append(row([name, *cells]))
    return lines


def compare_results(one: Result, other: Result) -> Iterator[tuple[str, float, float]]:
    """Every ratio to the anchor that two results have in common: what it is of, and both values."""
    for threads, workloads in one["speed"].items():
        for workload, figures in workloads.items():
            for name, each in figures.items():
                again = other["speed"].get(threads, {}).get(workload, {}).get(name, {}).get("anchor_times_faster")
                if again and name != one["anchor"]:
                    yield f"{name}, {workload}, {threads} threads", each["anchor_times_faster"], again
