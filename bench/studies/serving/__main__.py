"""Servers under load: quoit, and others on the same weights.

    python -m bench.studies.serving [--shape small] [--systems NAME …] [--scenarios NAME …] [--seconds 30]

Serves the trained models of models/ (`small`) or random checkpoints of a shape, each server in a process and an
environment of its own, on the same machine as the generator. Scenarios, in this order:

- `idle`: a query every 100 ms. For quoit, the same queries also go to the library in a process of its own, in turn.
- `bulk`: the same while one client sends requests of 500 texts back to back, in turn with that client alone.
- `clients`: 1, 8, 32 and 64 clients that send one text and wait, in turn with one call of the library.
- `rerank`: 100 documents every 5 s beside bulk and queries (quoit alone).
- `overload`: twice the requests that the server bears for twice the seconds, and the recovery.
- `quitters`: 1.5 times what it bears, and 30 % of the clients give up after a second.

All but `clients` send at times fixed in advance, and latency counts from those. Health is asked for every 100 ms in all
of them, and memory is sampled. A server that cannot be installed or started is in the result with its reason. Prints
each server's figures as a line of JSON when they are there. Writes bench/results/serving.json and prints its table. The
last line is the JSON.
"""

import argparse
import json
import shutil
import signal
import sys

from bench.record import RESULTS, ROOT, add_trial, begin
from bench.studies.serving.scenarios import SCENARIOS
from bench.studies.serving.study import BULK_TEXTS, Plan, folder_of, study
from bench.studies.serving.systems import SYSTEMS, make_files
from bench.studies.serving.table import serving_table

RESULT = RESULTS / "serving.json"
SHAPES = ("small", "tiny", "0.6b")
LARGE_BULK_TEXTS = 50
"""Number of texts of a bulk request on the 0.6B shape, where 500 take minutes."""


def main() -> None:
    """The command line."""
    names = [system.name for system in SYSTEMS]
    parser = argparse.ArgumentParser(description="Measure servers under load.")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--systems", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--scenarios", nargs="+", choices=SCENARIOS, default=[*SCENARIOS], metavar="NAME", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of a scenario; `overload` takes twice as long")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bulk-texts", type=int, help=f"texts of a bulk request ({BULK_TEXTS}; 0.6b: 50)")
    parser.add_argument("--port", type=int, help="port of the servers (default: a free one)")
    parser.add_argument(
        "--keep", action="store_true", help="keep checkpoints and artifacts, and use them the next time"
    )
    add_trial(parser)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers are ended too
    recording = begin(trial=options.trial)
    folder = folder_of(options.shape, ROOT)
    bulk = options.bulk_texts or (LARGE_BULK_TEXTS if options.shape == "0.6b" else BULK_TEXTS)
    files = make_files(options.shape, folder)
    plan = Plan(files, options.scenarios, options.seconds, options.threads, bulk, options.port)
    result = recording.describe(options.threads) | {"shape": options.shape}
    result |= study(plan, [system for system in SYSTEMS if system.name in options.systems])
    if not options.keep:
        shutil.rmtree(folder)
    print("\n".join(serving_table(result)))
    print(json.dumps(result))
    recording.write(RESULT, result)


if __name__ == "__main__":
    main()
