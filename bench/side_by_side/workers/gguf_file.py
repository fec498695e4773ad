"""Makes a GGUF file of a Qwen3 embedding checkpoint, matrices in bfloat16.

    python -m bench.side_by_side.workers.gguf_file CHECKPOINT OUT


Names and metadata are those of llama.cpp's own converter for qwen3, with pooling of the last token and an end token
added to every text. That converter asks for a tokenizer whose hash it knows, which a small model's is not.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
from safetensors import safe_open

NAMES = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
LAYER = re.compile(r"layers\.(\d+)\.(.+)\.weight")


def rename(name: str) -> str:
    """llama.cpp's name of a tensor."""
    name = name.removeprefix("model.")
    found = LAYER.fullmatch(name)
    return f"blk.{found[1]}.{NAMES[found[2]]}.weight" if found else NAMES[name]


def add_numbers(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """The architecture."""
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_pooling_type(gguf.PoolingType.LAST)


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], vocabulary_size: int) -> None:
    """The vocabulary, its merges and the end token that the post-processor adds."""
    ids = dict(tokenizer["model"]["vocab"]) | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    special = {token["id"] for token in tokenizer["added_tokens"]}
    names = {number: name for name, number in ids.items()}
    tokens = [names.get(number, f"[PAD{number}]") for number in range(vocabulary_size)]
    kinds = []
    for number in range(vocabulary_size):
        kind = gguf.TokenType.NORMAL if number in names else gguf.TokenType.UNUSED
        kinds.append(gguf.TokenType.CONTROL if number in special else kind)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    end = ids["<|endoftext|>"]
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(value=False)
    writer.add_add_eos_token(value=True)


def convert(checkpoint: Path, out: Path) -> None:
    """Writes the file."""
    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(str(out), "qwen3")
    add_numbers(writer, config)
    add_tokenizer(writer, json.loads((checkpoint / "tokenizer.json").read_text("utf-8")), config["vocab_size"])
    for shard in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(shard, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - the file is no mapping
                values = np.asarray(tensors.get_tensor(name)).astype(ml_dtypes.bfloat16)
                if values.ndim == 1:
                    writer.add_tensor(rename(name), values.astype(np.float32))
                else:
                    raw = np.ascontiguousarray(values).view(np.uint8)
                    writer.add_tensor(rename(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
