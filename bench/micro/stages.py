"""`python -m bench micro`: the times of single stages, stored in bench/results or compared with those."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.record import RESULTS, ROOT, add_trial, begin

RESULT = RESULTS / "parts.json"
PYTEST = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "--benchmark-only", "-q"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--compare", action="store_true", help="show the stored times beside today's, write nothing")
    parser.add_argument("-k", dest="named", metavar="EXPRESSION", help="run only these; with --compare")
    add_trial(parser)


def run(options: argparse.Namespace) -> None:
    """The command."""
    if options.compare:
        stored = [f"--benchmark-compare={RESULT}", "--benchmark-group-by=fullname"]
        named = ["-k", options.named] if options.named else []
        raise SystemExit(subprocess.run([*PYTEST, *stored, *named], cwd=ROOT, check=False).returncode)
    if options.named:
        raise SystemExit("bench: -k goes with --compare; the stored result has every stage")
    recording = begin(trial=options.trial)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / RESULT.name
        done = subprocess.run([*PYTEST, f"--benchmark-json={written}"], cwd=ROOT, check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
        print(recording.write(RESULT, json.loads(written.read_text())))
