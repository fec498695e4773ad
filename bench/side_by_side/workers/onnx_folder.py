"""Makes a folder as fastembed and qwen3-embed load it.

    python -m bench.side_by_side.workers.onnx_folder GRAPH CHECKPOINT OUT


They feed ids and mask alone; optimum's graph wants position_ids too, which become the mask's running sum less one.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

FILE = Path("onnx/model_quantized.onnx")


def make_positions(model: onnx.ModelProto) -> None:
    """Replaces the input position_ids by nodes."""
    graph = model.graph
    graph.input.remove(next(value for value in graph.input if value.name == "position_ids"))
    constants = {"bench_axis": np.array(1), "bench_one": np.array([1]), "bench_zero": np.array([0])}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    nodes = [
        helper.make_node("CumSum", ["attention_mask", "bench_axis"], ["bench_sums"]),
        helper.make_node("Sub", ["bench_sums", "bench_one"], ["bench_places"]),
        helper.make_node("Max", ["bench_places", "bench_zero"], ["position_ids"]),
    ]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)


def main() -> None:
    """The command line."""
    source, checkpoint, out = map(Path, sys.argv[1:])
    (out / FILE.parent).mkdir(parents=True)
    model = onnx.load(source)
    make_positions(model)
    onnx.save(model, out / FILE)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(checkpoint / name, out / name)
    config = json.loads((checkpoint / "config.json").read_text())
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    settings.setdefault("model_max_length", config["max_position_embeddings"])
    (out / "tokenizer_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    main()
