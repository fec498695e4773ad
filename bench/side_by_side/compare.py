"""`python -m bench compare`: how far the ratios of two results are from each other."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from bench.side_by_side.result import Result

FAR = 0.15
"""Maximum relative distance of two ratios that agree."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--most", type=float, default=FAR, help=f"how far a ratio may be off (default: {FAR})")


def run(options: argparse.Namespace) -> None:
    """Prints how far the ratios of two results are from each other, furthest first; fails beyond --most."""
    results = [json.loads(file.read_text()) for file in (options.one, options.other)]
    found = sorted(compare_results(*results), key=lambda each: -abs(each[2] / each[1] - 1))
    for what, first, second in found:
        print(f"{second / first - 1:+7.1%}  {first:7.3f} {second:7.3f}  {what}")
    far = sum(abs(second / first - 1) > options.most for _, first, second in found)
    print(f"{len(found)} ratios, {far} of them more than {options.most:.0%} apart")
    raise SystemExit(bool(far))


def compare_results(one: Result, other: Result) -> Iterator[tuple[str, float, float]]:
    """Every ratio to the anchor that two results have in common: what it is of, and both values."""
    for threads, workloads in one["speed"].items():
        for workload, figures in workloads.items():
            for name, each in figures.items():
                again = other["speed"].get(threads, {}).get(workload, {}).get(name, {}).get("anchor_times_faster")
                if again and name != one["anchor"]:
                    yield f"{name}, {workload}, {threads} threads", each["anchor_times_faster"], again
