"""Draws the learning curves that the trainings wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

SOURCES = ("debian", "wordnet", "docstrings")
LINES = {
    "embedding": (("@256", "-", 2.0), ("@64", "-", 0.8)),
    "reranker": (("", "-", 2.0), (" before", ":", 1.2)),
}
"""What is drawn of each source: the name's ending, the style and the width."""
TITLES = {
    "embedding": "embedding: among all documents",
    "reranker": "reranker: among the embedding's best 50",
}


def read_curve(file: Path) -> list[dict[str, Any]]:
    """The lines of a curve file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def draw(curves: Mapping[str, Path], out: Path) -> None:
    """nDCG@10 on the development pairs over the steps, a panel for each of the curves that LINES names."""
    figure, panels = plt.subplots(1, len(curves), figsize=(6 * len(curves), 4), layout="constrained", squeeze=False)
    for panel, (model, file) in zip(panels[0], curves.items(), strict=True):
        measured = read_curve(file)
        steps = [line["step"] for line in measured]
        for number, source in enumerate(SOURCES):
            for ending, style, width in LINES[model]:
                name = f"{source}{ending}"
                values = [line[name] for line in measured]
                panel.plot(steps, values, style, color=f"C{number}", linewidth=width, label=name)
        panel.set(title=TITLES[model], xlabel="step", ylabel="nDCG@10, development pairs", ylim=(0, 1))
        panel.legend(fontsize=7)
    figure.savefig(out, dpi=110)
    plt.close(figure)
