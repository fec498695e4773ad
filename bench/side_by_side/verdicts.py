"""What the report says at its top: where quoit is not first, and each target, met or missed."""

from collections.abc import Callable, Iterator

from bench.markdown import row, titled
from bench.side_by_side.result import (
    FAITHFUL,
    NONE,
    Result,
    best,
    closeness,
    cold_memory,
    installed,
    is_faithful,
    is_quoit,
    mixed,
    on,
    ratio,
    rivals_of,
)


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
