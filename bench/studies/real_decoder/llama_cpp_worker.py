"""States of token rows by llama.cpp, in an environment of its own that has llama-cpp-python and numpy.

    python -m bench.studies.real_decoder.llama_cpp_worker GGUF KIND OUT.npy < ROWS.json

Each row of token ids is a batch of its own. OUT gets the last token's states behind the final norm [rows, hidden].
KIND is `stored` for the weights as they are, `Q8_0` for weights in 8 bits, or `F32` for float32 in everything, keys
and values included. llama.cpp rounds the activations that meet quantized weights to 8 bits, in blocks of 32.
"""

import ctypes
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

STORED, FLOAT32 = "stored", "F32"
FILE_TYPES = {"F32": "LLAMA_FTYPE_ALL_F32", "Q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0"}
MAX_TOKENS = 512


def use_plain_tensors() -> None:
    """Let llama.cpp load tensors as the file has them, not repacked for this CPU.

    Repacking changes speed. On some virtual machines it chooses instructions that the machine does not let through.
    """
    default = llama_cpp.llama_model_default_params

    def parameters() -> Any:
        found = default()
        found.use_extra_bufts = False
        return found

    llama_cpp.llama_cpp.llama_model_default_params = parameters


def requantized(source: Path, kind: str, folder: Path) -> Path:
    """Return a copy of a GGUF file with weights of another kind.

    Raises:
        SystemExit: llama.cpp cannot make it.
    """
    out = folder / f"{kind}.gguf"
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, FILE_TYPES[kind])
    settings.allow_requantize = True
    settings.pure = True
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.pointer(settings))
    if status:
        raise SystemExit(f"llama_model_quantize gave {status} for {source} as {kind}")
    return out


def main() -> None:
    """The command line."""
    file, kind, out = sys.argv[1:]
    rows = json.load(sys.stdin)
    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32} if kind == FLOAT32 else {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(file) if kind == STORED else requantized(Path(file), kind, Path(folder))
        use_plain_tensors()
        model = llama_cpp.Llama(
            str(source),
            embedding=True,
            pooling_type=llama_cpp.LLAMA_POOLING_TYPE_LAST,
            n_ctx=MAX_TOKENS,
            n_batch=MAX_TOKENS,
            n_ubatch=MAX_TOKENS,
            verbose=False,
            **exact,
        )
        # The model asks its tokenizer for the tokens of a text; here a text is the number of a row.
        model.tokenize = lambda number: rows[int(number)]
        np.save(out, np.array(model.embed([str(number) for number in range(len(rows))]), np.float32))


if __name__ == "__main__":
    main()
