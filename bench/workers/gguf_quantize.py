"""`python -m bench.workers.gguf_quantize GGUF OUT TYPE`: llama.cpp's own quantization, such as Q8_0 or Q4_K_M."""

import sys

import llama_cpp

if __name__ == "__main__":
    source, out, kind = sys.argv[1:]
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    status = llama_cpp.llama_model_quantize(source.encode(), out.encode(), settings)
    if status:
        raise SystemExit(f"llama_model_quantize gave {status} for {source} as {kind}")
