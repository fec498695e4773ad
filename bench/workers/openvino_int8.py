"""OpenVINO through optimum-intel: int8 weights, activations quantized as it runs, one stream on all threads."""

from typing import Any

from bench.workers.padding import run_sorted
from bench.workers.protocol import Vectors


class OpenVino:
    def __init__(self, model: Any, tokenizer: Any, prompt: str) -> None:
        self.model, self.tokenizer, self.prompt = model, tokenizer, prompt

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        rendered = [self.prompt + text for text in texts] if query else texts
        return run_sorted(rendered, self.tokenizer, self.states)

    def states(self, inputs: dict[str, Any]) -> Any:
        return self.model(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).last_hidden_state

    def score(self, query: str, documents: list[str]) -> Vectors:
        raise NotImplementedError("feature extraction scores no pairs")


def load(config: dict[str, Any]) -> OpenVino:
    """Config: `folder`, `checkpoint`, `threads`, `query_prompt`."""
    from optimum.intel import OVModelForFeatureExtraction
    from transformers import AutoTokenizer

    settings = {"INFERENCE_NUM_THREADS": str(config["threads"]), "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    model = OVModelForFeatureExtraction.from_pretrained(config["folder"], ov_config=settings, device="CPU")
    tokenizer = AutoTokenizer.from_pretrained(config["checkpoint"], padding_side="right")
    return OpenVino(model, tokenizer, config["query_prompt"])
