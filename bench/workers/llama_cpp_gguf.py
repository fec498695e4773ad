"""llama.cpp through llama-cpp-python, which fills batches of several texts by itself; pooling takes the last token."""

from typing import Any

import numpy as np

from bench.workers.protocol import Vectors

BATCH_TOKENS = 8192
"""The longest text; llama-cpp-python wants one in a batch whole."""
MICRO_BATCH_TOKENS = 512


class LlamaCpp:
    def __init__(self, model: Any, prompt: str) -> None:
        self.model, self.prompt = model, prompt

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        rendered = [self.prompt + text for text in texts] if query else texts
        return np.array(self.model.embed(rendered, normalize=True), np.float32)

    def score(self, query: str, documents: list[str]) -> Vectors:
        raise NotImplementedError("an embedding model scores no pairs")


def load(config: dict[str, Any]) -> LlamaCpp:
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
    return LlamaCpp(model, config["query_prompt"])
