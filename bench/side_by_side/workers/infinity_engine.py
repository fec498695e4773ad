"""infinity's engine in this process, on torch with its defaults for a CPU."""

import asyncio
from typing import Any

import numpy as np

from bench.side_by_side.workers.protocol import TextEncoder, Vectors


def load(config: dict[str, Any]) -> TextEncoder:
    """Config: `checkpoint`, `threads`, `query_prompt`."""
    import torch
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    torch.set_num_threads(config["threads"])
    arguments = EngineArgs(
        model_name_or_path=config["checkpoint"], engine="torch", device="cpu", model_warmup=False, dtype="float32"
    )
    loop = asyncio.new_event_loop()
    engine = AsyncEmbeddingEngine.from_args(arguments)
    loop.run_until_complete(engine.astart())

    def encode(texts: list[str]) -> Vectors:
        vectors, _ = loop.run_until_complete(engine.embed(sentences=texts))
        return np.stack(vectors)

    return TextEncoder(encode, config["query_prompt"])
