"""infinity's engine in this process, on torch with its defaults for a CPU."""

import asyncio
from typing import Any

import numpy as np

from bench.workers.protocol import Vectors


class Infinity:
    def __init__(self, engine: Any, loop: asyncio.AbstractEventLoop, prompt: str) -> None:
        self.engine, self.loop, self.prompt = engine, loop, prompt

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        rendered = [self.prompt + text for text in texts] if query else texts
        vectors, _ = self.loop.run_until_complete(self.engine.embed(sentences=rendered))
        return np.stack(vectors)

    def score(self, query: str, documents: list[str]) -> Vectors:
        raise NotImplementedError("an embedding model scores no pairs")


def load(config: dict[str, Any]) -> Infinity:
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
    return Infinity(engine, loop, config["query_prompt"])
