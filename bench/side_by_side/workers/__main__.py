"""`python -m bench.side_by_side.workers ADAPTER CONFIG` serves one system; CONFIG is JSON for its adapter's `load`."""

import importlib
import json
import os
import sys

from bench.side_by_side.workers.protocol import serve

if __name__ == "__main__":
    adapter, config = sys.argv[1:]
    # Imports belong to a cold start, so each adapter makes its own inside `load`.
    serve(importlib.import_module(f"bench.side_by_side.workers.{adapter}").load, json.loads(config))
    # Threads of a library must not outlive the run that asked for it.
    os._exit(0)
