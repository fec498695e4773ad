"""optimum-onnx: `ORTModelForFeatureExtraction` on the graph that `optimum-cli export onnx` and `quantize` made."""

from typing import Any

from bench.side_by_side.workers.padding import run_sorted
from bench.side_by_side.workers.protocol import TextEncoder


def load(config: dict[str, Any]) -> TextEncoder:
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

    def states(inputs: dict[str, Any]) -> Any:
        return model(**inputs).last_hidden_state

    return TextEncoder(lambda texts: run_sorted(texts, tokenizer, states), config["query_prompt"])
