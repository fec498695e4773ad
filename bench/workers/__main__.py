"""`python -m bench.workers ADAPTER CONFIG`: serves one system; CONFIG is JSON, see each adapter's `load`."""

import importlib
import json
import os
import sys

from bench.workers.protocol import serve

if __name__ == "__main__":
    adapter, config = sys.argv[1:]
    # Imports belong to a cold start, so each adapter makes its own inside `load`.
    serve(importlib.import_module(f"bench.workers.{adapter}").load, json.loads(config))
    # Threads of a library must not outlive the run that asked for it.
    os._exit(0)
