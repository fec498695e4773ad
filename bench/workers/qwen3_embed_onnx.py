"""qwen3-embed under the name of its own int8 model, but from a local folder; it computes one text at a time.

Its published graph cannot be had offline; the folder has optimum's int8 graph of the same checkpoint as every other
system, with position_ids made of the attention mask by `prepare.py`.
"""

from typing import Any

import numpy as np

from bench.workers.protocol import Vectors

NAME = "n24q02m/Qwen3-Embedding-0.6B-ONNX"


class Qwen3Embed:
    def __init__(self, model: Any, prompt: str) -> None:
        self.model, self.prompt = model, prompt

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        rendered = [self.prompt + text for text in texts] if query else texts
        return np.stack(list(self.model.embed(rendered)))

    def score(self, query: str, documents: list[str]) -> Vectors:
        raise NotImplementedError("an embedding model scores no pairs")


def load(config: dict[str, Any]) -> Qwen3Embed:
    """Config: `folder`, `threads`, `query_prompt`."""
    from qwen3_embed import TextEmbedding

    model = TextEmbedding(
        model_name=NAME,
        specific_model_path=config["folder"],
        threads=config["threads"],
        providers=["CPUExecutionProvider"],
    )
    return Qwen3Embed(model, config["query_prompt"])
