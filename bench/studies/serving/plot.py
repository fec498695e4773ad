"""The line of a server's memory over time: a PNG where matplotlib is installed, else an SVG."""

from pathlib import Path

WIDTH, HEIGHT, MARGIN = 720, 240, 48
LINE = "#2f6f9f"
Points = list[list[float]]
"""Seconds and MB."""


def memory_picture(points: Points, file: Path) -> Path:
    """Draw points; the file's ending is added."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        target = file.with_suffix(".svg")
        target.write_text(svg(points), encoding="utf-8")
        return target
    figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds", ylabel="resident MB", ylim=(0, top(points)))
    axes.plot(*zip(*points, strict=True), color=LINE)
    target = file.with_suffix(".png")
    figure.savefig(target, dpi=150)
    return target


def svg(points: Points) -> str:
    """The same line by hand."""
    last, most = max(points[-1][0], 1.0), top(points)
    across, down = (WIDTH - 2 * MARGIN) / last, (HEIGHT - 2 * MARGIN) / most
    places = " ".join(f"{MARGIN + when * across:.1f},{HEIGHT - MARGIN - value * down:.1f}" for when, value in points)
    low, right = HEIGHT - MARGIN, WIDTH - MARGIN
    style = 'font-family="sans-serif" font-size="12"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            "<title>Resident memory of the server over time</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<path d="M{MARGIN} {MARGIN}V{low}H{right}" fill="none" stroke="#444"/>',
            f'<text x="{MARGIN}" y="{MARGIN - 10}" {style}>{most:.0f} MB</text>',
            f'<text x="{right}" y="{low + 18}" text-anchor="end" {style}>{last:.0f} s</text>',
            f'<polyline points="{places}" fill="none" stroke="{LINE}" stroke-width="2"/>',
            "</svg>",
            "",
        ]
    )


def top(points: Points) -> float:
    """The upper end of the axis."""
    return max(value for _, value in points) * 1.1
