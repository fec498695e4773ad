"""llama.cpp through llama-cpp-python, which fills batches of several texts by itself; pooling takes the last token."""

from typing import Any

import numpy as np

from bench.side_by_side.workers.protocol import TextEncoder

BATCH_TOKENS = 8192
"""The longest text; llama-cpp-python wants one in a batch whole."""
MICRO_BATCH_TOKENS = 512


def load(config: dict[str, Any]) -> TextEncoder:
    """Config: `file`, `threads`, `query_prompt`."""
    import llama_cpp

    model = llama_cpp.Llama(
        config["file"],
        embedding=True,
        pooling_type=llama_cpp.LLAMA_POOLING_TYPE_LAST,
        n_ctx=BATCH_TOKENS,
        n_batch=BATCH_TOKENS,
        n_ubatch=MICRO_BATCH_TOKENS,
        n_threads=config["threads"],
        n_threads_batch=config["threads"],
        flash_attn=True,
        verbose=False,
    )
    return TextEncoder(lambda texts: np.array(model.embed(texts, normalize=True), np.float32), config["query_prompt"])
