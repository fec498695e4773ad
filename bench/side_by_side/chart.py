"""The README's bar chart: how many times as fast quoit is as each rival, with the rival's cosine beside its name."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.side_by_side.result import Result
from bench.side_by_side.tables import CHART, FRONT_RIVALS, FRONT_WORKLOADS

BAR, LINE, QUIET = "#2f6f9f", "#1b1b1b", "#6b6b6b"
WIDTH, HEIGHT, DPI = 8.0, 4.1, 200
LEFT, RIGHT, TOP, BOTTOM = 0.305, 0.99, 0.775, 0.10
"""Edges of the panels, as parts of the figure."""


def draw_chart(result: Result, file: Path = CHART) -> None:
    """Writes the chart as a PNG of 1,600 pixels' width."""
    mpl.use("agg")
    threads = next(iter(result["speed"]))
    speed = result["speed"][threads]
    names = sorted(FRONT_RIVALS, key=lambda name: -speed["mix of 200"][name]["anchor_times_faster"])
    most = max(speed[workload][name]["anchor_times_faster"] for workload in FRONT_WORKLOADS for name in names)
    figure = Figure((WIDTH, HEIGHT), facecolor="white")
    panels = figure.subplots(1, len(FRONT_WORKLOADS), sharey=True)
    figure.subplots_adjust(left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM, wspace=0.06)
    for axes, (workload, title) in zip(panels, FRONT_WORKLOADS.items(), strict=True):
        panel(axes, [speed[workload][name]["anchor_times_faster"] for name in names], most)
        axes.set_title(title, fontsize=9.5, loc="left", color=LINE)
    panels[0].set_yticks(range(len(names)), [f"{name}  {cosine(result, name)}" for name in names], fontsize=9)
    panels[0].invert_yaxis()
    figure.text(0.01, 0.945, "quoit int8 is this many times as fast as …", fontsize=13, weight="bold", color=LINE)
    figure.text(0.01, 0.885, "Longer bars are better for quoit; the line is equal speed.", fontsize=9, color=QUIET)
    figure.text(LEFT - 0.012, TOP + 0.022, "system, cosine to fp32", fontsize=8, color=QUIET, ha="right")
    figure.text(0.01, 0.03, caption(result, threads), fontsize=8, color=QUIET)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI)


def panel(axes: Any, ratios: list[float], most: float) -> None:
    """One workload's bars, each with its number behind it."""
    axes.barh(range(len(ratios)), ratios, height=0.62, color=BAR)
    for place, ratio in enumerate(ratios):
        axes.text(
            ratio + most / 60,
            place,
            f"{ratio:.1f} ×" if ratio >= 2 else f"{ratio:.2f} ×",
            va="center",
            fontsize=8.5,
            color=LINE,
        )
    axes.axvline(1, color=LINE, linewidth=0.8)
    axes.set_xlim(0, most * 1.32)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def cosine(result: Result, name: str) -> str:
    """A system's mean cosine to float32's vectors, in four digits."""
    return f"{result['systems'][name]['cosine']['mean']:.4f}"


def caption(result: Result, threads: str) -> str:
    """What was measured where, in one line."""
    return (
        f"{result['machine']['cpu']}, {threads} threads; Qwen3 0.6B shape, random weights; "
        f"texts in 16 languages; quoit int8: cosine {cosine(result, result['anchor'])}; {result['date'][:10]}"
    )
