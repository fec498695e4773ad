"""The command line of a study that exports a made checkpoint of a shape, and lets its artifacts take turns."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.record import ROOT, add_trial, begin

Table = Callable[[dict[str, Any]], list[str]]
Study = Callable[..., dict[str, Any]]
"""Function of a shape, a folder, the threads, the rounds and the names of works; it returns the result."""


def run_study(
    study: Study, table: Callable[[dict[str, Any]], list[str]], result: Path, *, aim: str, rounds: int
) -> None:
    """Parse the command line, run a study in a folder below models/, print its table and its JSON, and record it.

    Args:
        study: the study.
        table: function that returns the lines of the result's table.
        result: the result's file; the folder is named after it.
        aim: the description for `--help`.
        rounds: the number of rounds by default.
    """
    parser = argparse.ArgumentParser(description=aim)
    parser.add_argument("--shape", choices=("tiny", "0.6b"), default="0.6b")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--keep", action="store_true", help="keep checkpoint and artifact, and use them the next time")
    parser.add_argument("--works", nargs="+", metavar="NAME", help="some of the works alone, such as query 8x128")
    add_trial(parser)
    options = parser.parse_args()
    recording = begin(trial=options.trial)
    folder = ROOT / "models" / f"bench-{result.stem}-{options.shape}"
    folder.mkdir(exist_ok=True)
    found = study(options.shape, folder, options.threads, options.rounds, options.works)
    found = recording.describe(options.threads) | found
    if not options.keep:
        shutil.rmtree(folder)
    print("\n".join(table(found)))
    print(json.dumps(found))
    recording.write(result, found)
