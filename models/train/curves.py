"""Draws the learning curve that the training of the embedding model wrote."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt


def read_curve(file: Path) -> list[dict[str, Any]]:
    """The lines of a curve file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def draw(curve: Path, out: Path) -> None:
    """nDCG@10 on the development pairs over the steps: whole vectors thick, quarter ones thin."""
    lines = read_curve(curve)
    steps = [line["step"] for line in lines]
    figure, panel = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, source in enumerate(("debian", "wordnet", "docstrings")):
        for size, width in ((384, 2.0), (96, 0.8)):
            name = f"{source}@{size}"
            panel.plot(steps, [line[name] for line in lines], color=f"C{number}", linewidth=width, label=name)
    panel.set(xlabel="step", ylabel="nDCG@10, development pairs", ylim=(0, 1))
    panel.legend(fontsize=7)
    figure.savefig(out, dpi=110)
    plt.close(figure)
