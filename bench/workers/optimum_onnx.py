"""optimum-onnx: `ORTModelForFeatureExtraction` on the graph that `optimum-cli export onnx` and `quantize` made."""

from typing import Any

from bench.workers.padding import run_sorted
from bench.workers.protocol import Vectors


class Optimum:
    def __init__(self, model: Any, tokenizer: Any, prompt: str) -> None:
        self.model, self.tokenizer, self.prompt = model, tokenizer, prompt

    def encode(self, texts: list[str], *, query: bool) -> Vectors:
        rendered = [self.prompt + text for text in texts] if query else texts
        return run_sorted(rendered, self.tokenizer, lambda inputs: self.model(**inputs).last_hidden_state)

    def score(self, query: str, documents: list[str]) -> Vectors:
        raise NotImplementedError("feature extraction scores no pairs")


def load(config: dict[str, Any]) -> Optimum:
    """Config: `folder`, `file`, `checkpoint`, `threads`, `query_prompt`."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config["threads"]
    model = ORTModelForFeatureExtraction.from_pretrained(
        config["folder"], file_name=config["file"], session_options=options, provider="CPUExecutionProvider"
    )
    tokenizer = AutoTokenizer.from_pretrained(config["checkpoint"], padding_side="right")
    return Optimum(model, tokenizer, config["query_prompt"])
