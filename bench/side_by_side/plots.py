"""The report's plots. This module does not know what the figures mean beyond their names."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.side_by_side.result import Result, is_quoit, mixed, on, throughputs

OURS, THEIRS = "#c0392b", "#7f8c8d"
WIDTH, HEIGHT = 9.0, 5.0
MIN_DISTANCE = 1e-7
"""What float32 itself is drawn at."""


def draw(result: Result, folder: Path) -> dict[str, str]:
    """Writes every plot that the result has figures for; -> file names by title."""
    mpl.use("agg")
    threads = next(iter(result["speed"]))
    plots = {
        "Speed against cosine": ("speed-cosine.png", scatter),
        "Latency against length": ("latency-length.png", lengths),
        "Throughput": ("throughput.png", bars),
        "Where quoit's time goes": ("profile.png", profile),
    }
    drawn: dict[str, str] = {}
    for title, (name, plot) in plots.items():
        figure = Figure((WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(f"{title} ({on(threads)})")
        if plot(result, threads, axes):
            figure.savefig(folder / name, dpi=120)
            drawn[title] = name
    return drawn


def colour(name: str) -> str:
    """quoit stands out."""
    return OURS if is_quoit(name) else THEIRS


def scatter(result: Result, threads: str, axes: Any) -> bool:
    """A point for each system: tokens/s of the mix against one minus the mean cosine."""
    found = result["speed"][threads].get(mixed(result, threads), {})
    fastest = max((figures["tokens_per_second"] for figures in found.values()), default=0)
    placed: list[tuple[float, float]] = []
    for name, figures in sorted(found.items(), key=lambda item: -item[1]["tokens_per_second"]):
        cosine = result["systems"][name].get("cosine")
        if cosine is not None:
            distance, speed = max(1 - cosine["mean"], MIN_DISTANCE), figures["tokens_per_second"]
            crowded = any(abs(np.log10(distance / x)) < 1 and abs(speed - y) < fastest / 30 for x, y in placed)
            placed.append((distance, speed))
            axes.scatter(distance, speed, color=colour(name))
            below = {"xytext": (4, -9)} if crowded else {"xytext": (4, 4)}
            axes.annotate(name, (distance, speed), textcoords="offset points", fontsize=8, **below)
    axes.set(
        xscale="log", xlabel="1 - mean cosine to fp32 (left is better)", ylabel=f"tokens/s, {mixed(result, threads)}"
    )
    axes.set_xlim(right=0.1)
    axes.set_ylim(bottom=0)
    axes.axvline(0.01, color="black", linewidth=0.5, linestyle=":")
    return bool(found)


def lengths(result: Result, threads: str, axes: Any) -> bool:
    """A line for each system: milliseconds of one text against its tokens."""
    found = result["speed"][threads].get("lengths", {})
    axes.set_prop_cycle(color=mpl.color_sequences["tab20"])
    for name, figures in found.items():
        tokens, milliseconds = zip(*figures["by_length"], strict=True)
        style = "-" if is_quoit(name) else "--"
        axes.plot(tokens, milliseconds, style, marker=".", label=name, linewidth=2 if is_quoit(name) else 1)
    axes.set(xscale="log", yscale="log", xlabel="tokens of one text", ylabel="milliseconds, median")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    if found:
        # From top to bottom as the lines end.
        lines = sorted(axes.get_lines(), key=lambda line: -line.get_ydata()[-1])
        axes.legend(handles=lines, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return bool(found)


def bars(result: Result, threads: str, axes: Any) -> bool:
    """A group of bars for each system: how fast it is, as a part of the anchor's speed in the same rounds."""
    workloads = throughputs(result, threads)
    names = [name for name in result["systems"] if any(name in figures for figures in workloads.values())]
    thickness = 0.8 / max(len(workloads), 1)
    for number, (workload, figures) in enumerate(workloads.items()):
        places = [place + number * thickness for place, name in enumerate(names) if name in figures]
        speeds = [1 / figures[name]["anchor_times_faster"] for name in names if name in figures]
        axes.barh(places, speeds, thickness, label=workload)
    axes.set_yticks([place + 0.4 - thickness / 2 for place in range(len(names))], names, fontsize=8)
    for label in axes.get_yticklabels():
        label.set_color(OURS if is_quoit(label.get_text()) else "black")
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.5)
    axes.set_xlabel(f"speed, {result['anchor']} = 1")
    axes.legend(fontsize=7)
    return bool(workloads)


def profile(result: Result, threads: str, axes: Any) -> bool:
    """A bar for each precision, in parts."""
    found = result["limits"].get(threads, {}).get("profile", {})
    kinds = list(dict.fromkeys(kind for shares in found.values() for kind in shares))
    left = dict.fromkeys(found, 0.0)
    for kind in kinds:
        values = [shares.get(kind, 0.0) for shares in found.values()]
        axes.barh(list(found), values, left=list(left.values()), label=kind)
        left = {name: left[name] + value for name, value in zip(found, values, strict=True)}
    axes.set_xlabel("share of the time of all nodes")
    if found:
        axes.legend(fontsize=7, ncols=3, loc="lower center")
    return bool(found)
