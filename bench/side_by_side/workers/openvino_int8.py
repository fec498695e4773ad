"""OpenVINO through optimum-intel: int8 weights, activations quantized as it runs, one stream on all threads."""

from typing import Any

from bench.side_by_side.workers.padding import run_sorted
from bench.side_by_side.workers.protocol import TextEncoder


def load(config: dict[str, Any]) -> TextEncoder:
    """Config: `folder`, `checkpoint`, `threads`, `query_prompt`."""
    from optimum.intel import OVModelForFeatureExtraction
    from transformers import AutoTokenizer

    settings = {"INFERENCE_NUM_THREADS": str(config["threads"]), "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    model = OVModelForFeatureExtraction.from_pretrained(config["folder"], ov_config=settings, device="CPU")
    tokenizer = AutoTokenizer.from_pretrained(config["checkpoint"], padding_side="right")

    def states(inputs: dict[str, Any]) -> Any:
        return model(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).last_hidden_state

    return TextEncoder(lambda texts: run_sorted(texts, tokenizer, states), config["query_prompt"])
