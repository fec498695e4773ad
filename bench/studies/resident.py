"""Prints the most resident memory, in bytes, that a process has while it loads a variant and embeds.

    python -m bench.studies.resident ARTIFACT PRECISION THREADS < TEXTS.json

It imports nothing but quoit, and is the process that it measures.
"""

import json
import sys

from quoit import Embedder
from quoit.artifact import Precision
from quoit.machine import resident_bytes


def main(artifact: str, precision: Precision, threads: str) -> None:
    """Loads, embeds the list of texts on standard input, and prints."""
    embedder = Embedder(artifact, precision=precision, provider="cpu", threads=int(threads))
    embedder.encode(json.load(sys.stdin))
    print(resident_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
