"""The table of the study, from its result."""

from typing import Any

from bench.markdown import row, titled

COLUMNS = (
    "published",
    "MB",
    "float32 layers",
    "rows in two passes",
    "cosine: mean, least",
    "centred: mean, least",
    "ten nearest",
    "sentences: cosine, centred",
    "snippets: cosine, centred",
    "worst calibration text",
)


def real_decoder_table(result: dict[str, Any]) -> list[str]:
    """What each precision makes of each completion of the trained decoder, and llama.cpp on the same file."""
    lines = titled(["", *COLUMNS])
    for seed, variants in result["completions"].items():
        for precision, found in variants.items():
            if precision != "fp32":
                lines.append(row([f"{precision}, completion {seed}", *cells(found)]))
    for title, found in result["llama.cpp"].items():
        if "cosine" in found:
            lines.append(row([title, "", "", "", "", *near(found), "", "", ""]))
    return lines


def cells(found: dict[str, Any]) -> list[str]:
    """The cells of a variant."""
    if "bytes" not in found:
        return ["no", *[""] * (len(COLUMNS) - 1)]
    share, spared = found.get("second_pass_cost"), found.get("float32_layers")
    calibration = [
        one["least"] for one in found["parity"] if (one["measure"], one["texts"]) == ("cosine", "calibration")
    ]
    return [
        "yes" if found["published"] else "no",
        f"{found['bytes'] / 1e6:,.0f}",
        "" if spared is None else f"{spared} of {found['linear_layers']}",
        "" if share is None else f"{share:.1%}",
        *near(found["held_out"]),
        *(means(found[part]) for part in ("sentences", "snippets")),
        f"{calibration[0]:.4f}" if calibration else "",
    ]


def means(found: dict[str, Any]) -> str:
    """Mean and least cosine and mean centred cosine of a part of the texts."""
    return f"{found['cosine']['mean']:.5f} ({found['cosine']['least']:.4f}), {found['centred']['mean']:.4f}"


def near(found: dict[str, Any]) -> list[str]:
    """Cosine, centred cosine and overlap of nearest texts."""
    cosine, centred = found["cosine"], found["centred"]
    return [
        f"{cosine['mean']:.5f}, {cosine['least']:.4f}",
        f"{centred['mean']:.4f}, {centred['least']:.4f}",
        f"{found['top10']['mean']:.3f}",
    ]
