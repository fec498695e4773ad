"""qwen3-embed under the name of its own int8 model, but from a local folder; it computes one text at a time.

Its published graph cannot be had offline; the folder has optimum's int8 graph of the same checkpoint as every other
system, with position_ids made of the attention mask by `onnx_folder.py`.
"""

from typing import Any

import numpy as np

from bench.side_by_side.workers.protocol import TextEncoder

NAME = "n24q02m/Qwen3-Embedding-0.6B-ONNX"


def load(config: dict[str, Any]) -> TextEncoder:
    """Config: `folder`, `threads`, `query_prompt`."""
    from qwen3_embed import TextEmbedding

    model = TextEmbedding(
        model_name=NAME,
        specific_model_path=config["folder"],
        threads=config["threads"],
        providers=["CPUExecutionProvider"],
    )
    return TextEncoder(lambda texts: np.stack(list(model.embed(texts))), config["query_prompt"])
