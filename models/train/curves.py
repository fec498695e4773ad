"""Draws the learning curves that the trainings wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

QUARTER = "@64"


def read_curve(file: Path) -> list[dict[str, Any]]:
    """The lines of a curve file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def draw(curves: Mapping[str, Path], out: Path) -> None:
    """nDCG@10 on the development pairs over the steps, one panel a model; thin: 64 dimensions, dashed: before."""
    figure, panels = plt.subplots(1, len(curves), figsize=(10, 4), layout="constrained")
    for panel, (name, file) in zip(panels, curves.items(), strict=True):
        lines = read_curve(file)
        series = [key for key in lines[0] if key not in ("step", "seconds", "tokens", "loss") and "@128" not in key]
        for key in series:
            source = key.partition("@")[0].removesuffix(" before")
            colour = f"C{['debian', 'docstrings', 'wordnet'].index(source)}"
            style = {"linestyle": "--"} if key.endswith("before") else {"linewidth": 0.8 if QUARTER in key else 1.8}
            panel.plot(
                [line["step"] for line in lines], [line[key] for line in lines], color=colour, label=key, **style
            )
        panel.set(title=name, xlabel="step", ylabel="nDCG@10, development pairs", ylim=(0, 1))
        panel.legend(fontsize=7)
    figure.savefig(out, dpi=110)
    plt.close(figure)
