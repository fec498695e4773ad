"""`python -m bench report`: one Markdown page with tables and plots from a result of `python -m bench run`.

Where quoit is not first, or a target is missed, the page says so at its top. This module does not measure.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from bench.record import RESULTS
from bench.side_by_side.result import SIDE_BY_SIDE, Result, on
from bench.side_by_side.tables import (
    CHART,
    cost_table,
    latency_table,
    limit_table,
    reasons,
    side_by_side_table,
    speed_table,
)
from bench.side_by_side.verdicts import verdicts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--result", type=Path, default=SIDE_BY_SIDE)
    parser.add_argument("--table", action="store_true", help="print the table of all systems and write nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / "side-by-side", help="a folder for REPORT.md and plots")


def run(options: argparse.Namespace) -> None:
    """The command."""
    result = json.loads(options.result.read_text())
    if options.table:
        print("\n".join(side_by_side_table(result)))
        return
    from bench.side_by_side.chart import draw_chart
    from bench.side_by_side.plots import draw

    options.out.mkdir(parents=True, exist_ok=True)
    plots = draw(result, options.out)
    draw_chart(result, options.out / CHART.name)
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
