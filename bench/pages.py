"""`python -m bench pages`: generated regions of the repository's pages.

A region stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; what is between them comes from bench/results.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.record import RESULTS, ROOT
from bench.side_by_side.tables import chart_lines, front_table, side_by_side_table
from bench.studies.real_decoder.table import real_decoder_table
from bench.studies.serving.table import serving_table
from bench.studies.tables import (
    adversary_table,
    h100_table,
    kernels_table,
    methods_table,
    quality_tables,
    repository_table,
    rerank_table,
    second_pass_table,
)

PAGES = ("README.md", "bench/README.md", "export/README.md", "models/README.md", "runtime/README.md")
MARKED = re.compile(r"(<!-- begin ([\w-]+) -->\n)(.*?)(<!-- end \2 -->)", re.DOTALL)
Table = Callable[[dict[str, Any]], list[str]]
REGIONS: dict[str, tuple[str, Table]] = {
    "chart": ("side-by-side", chart_lines),
    "front": ("side-by-side", front_table),
    "side-by-side": ("side-by-side", side_by_side_table),
    "rerank": ("rerank-0.6b", rerank_table),
    "methods": ("int8-methods", methods_table),
    "adversaries": ("int8-methods", adversary_table),
    "quality": ("quality", quality_tables),
    "real-decoder": ("real-decoder", real_decoder_table),
    "h100": ("h100-brief", h100_table),
    "kernels": ("kernels", kernels_table),
    "second-pass": ("second-pass", second_pass_table),
    "serving": ("serving", serving_table),
    "repository": ("repository-search", repository_table),
}
"""The result that each region comes from, without `.json`, and what makes its lines."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--print", choices=REGIONS, help="print one region and write nothing")
    parser.add_argument("--words", action="store_true", help="count each page's words of prose and write nothing")


def run(options: argparse.Namespace) -> None:
    """The command."""
    if options.print:
        print(region(options.print))
        return
    if options.words:
        for name in PAGES:
            print(f"{words((ROOT / name).read_text(encoding='utf-8')):6,} {name}")
        return
    for name in PAGES:
        file = ROOT / name
        file.write_text(filled(file.read_text(encoding="utf-8")), encoding="utf-8")


def region(name: str) -> str:
    """The lines of a region.

    Raises:
        SystemExit: no region has that name.
    """
    if name not in REGIONS:
        raise SystemExit(f"bench: a page has a region {name!r}; regions are {', '.join(REGIONS)}")
    result, make = REGIONS[name]
    return "\n".join(make(json.loads((RESULTS / f"{result}.json").read_text())))


def filled(page: str) -> str:
    """A page with every region as it is made today."""
    return MARKED.sub(lambda found: f"{found[1]}{region(found[2])}\n{found[4]}", page)


def words(page: str) -> int:
    """The words of a page's prose: without code, output, tables, pictures, markers and the addresses of links."""
    for pattern in (r"```.*?```", r"^\|.*$", r"^!\[.*$", r"<!--.*?-->", r"(?<=\])\([^)]*\)", r"^ {4}.*$"):
        page = re.sub(pattern, "", page, flags=re.DOTALL if "```" in pattern or "<!--" in pattern else re.MULTILINE)
    return len(re.findall(r"\w[\w'.,/-]*", page))


def marked(file: Path) -> list[str]:
    """The names of a page's regions."""
    return [found[2] for found in MARKED.finditer(file.read_text(encoding="utf-8"))]
