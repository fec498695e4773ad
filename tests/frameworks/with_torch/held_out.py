"""The held-out package descriptions of this repository."""

import gzip
import json
from pathlib import Path

FILE = Path(__file__).resolve().parents[3] / "bench" / "corpora" / "heldout" / "debian.jsonl.gz"
PAIRS: list[dict[str, str]] = [json.loads(line) for line in gzip.decompress(FILE.read_bytes()).splitlines()]
"""Summaries and descriptions of packages, as "query" and "document"; "group" is debian/ and the source package."""


def documents(prefix: str) -> list[str]:
    """Return the descriptions of packages whose names begin so."""
    return [pair["document"] for pair in PAIRS if pair["group"].startswith(f"debian/{prefix}")]
