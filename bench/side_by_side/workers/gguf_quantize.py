"""Quantizes a GGUF file as llama.cpp itself does, such as to Q8_0 or Q4_K_M.

python -m bench.side_by_side.workers.gguf_quantize GGUF OUT TYPE
"""

import sys

import llama_cpp

if __name__ == "__main__":
    source, out, kind = sys.argv[1:]
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    status = llama_cpp.llama_model_quantize(source.encode(), out.encode(), settings)
    if status:
        raise SystemExit(f"llama_model_quantize gave {status} for {source} as {kind}")
