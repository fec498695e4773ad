"""Answer what `Embedder` and `Reranker` themselves say: a JSON object a line in, a JSON object a line out.

It runs in the environment of the repository, while the tests run in that of the clients. float32 travels as hex, so
that no bit is lost.
"""

import json
import os
import sys
from typing import Any

import numpy as np

from quoit import Embedder, Reranker


def main() -> None:
    """Answer each line until there are no more."""
    embedder = Embedder(os.environ["QUOIT_EMBEDDER"])
    reranker = Reranker(os.environ["QUOIT_RERANKER"])
    for line in sys.stdin:
        ask: dict[str, Any] = json.loads(line)
        method, arguments, options = ask["method"], ask["arguments"], ask["options"]
        if method == "rank":
            found: Any = reranker.rank(*arguments, **options)
        else:
            vectors = np.ascontiguousarray(getattr(embedder, method)(*arguments, **options), np.float32)
            found = {"shape": vectors.shape, "hex": vectors.tobytes().hex()}
        print(json.dumps(found), flush=True)  # noqa: T201  it is read by the tests


if __name__ == "__main__":
    main()
