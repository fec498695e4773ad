"""fastembed with a model of one's own, as its documentation adds them, on optimum's int8 graph.

That graph wants position_ids, which fastembed does not feed; `onnx_folder.py` makes them of the attention mask. Its
default batch of 256 texts pads all to the longest, so it gets eight at a time, as other padding systems here; it does
not sort.
"""

from typing import Any

import numpy as np

from bench.side_by_side.workers.padding import BATCH_TEXTS
from bench.side_by_side.workers.protocol import TextEncoder


def load(config: dict[str, Any]) -> TextEncoder:
    """Config: `folder`, `file`, `dim`, `threads`, `query_prompt`."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = "bench/qwen3"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.LAST_TOKEN,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=config["dim"],
        model_file=config["file"],
    )
    model = TextEmbedding(
        model_name=name,
        specific_model_path=config["folder"],
        threads=config["threads"],
        providers=["CPUExecutionProvider"],
    )
    return TextEncoder(lambda texts: np.stack(list(model.embed(texts, batch_size=BATCH_TEXTS))), config["query_prompt"])
