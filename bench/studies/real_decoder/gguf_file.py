"""Read a Llama decoder from a GGUF file: its numbers, its tensors in float32, and its tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

Matrix = NDArray[np.float32]

CONTROL_TOKEN = 3
"""Type of special tokens in GGUF's `tokenizer.ggml.token_type`."""
END_TOKEN = "<|endoftext|>"
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Names of a layer's tensors in GGUF, and in transformers."""


@dataclass(frozen=True)
class Llama:
    """A Llama decoder.

    Attributes:
        config: its numbers, named as in transformers' `LlamaConfig`.
        tensors: its tensors in float32, named as in transformers' `LlamaModel`.
        tokenizer: its tokenizer, which appends END_TOKEN to each text.
    """

    config: dict[str, Any]
    tensors: dict[str, Matrix]
    tokenizer: Tokenizer

    @classmethod
    def read(cls, file: Path, layers: int | None = None) -> Self:
        """Read the decoder of a GGUF file, or its first `layers` layers, with the final norm behind them."""
        reader = gguf.GGUFReader(file)
        fields: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        config = read_config(fields, layers)
        stored = {tensor.name: tensor for tensor in reader.tensors}

        def read(name: str) -> Matrix:
            tensor = stored[f"{name}.weight"]
            return np.array(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)

        tensors = {"embed_tokens.weight": read("token_embd"), "norm.weight": read("output_norm")}
        for layer in range(config["num_hidden_layers"]):
            tensors |= {f"layers.{layer}.{own}.weight": read(f"blk.{layer}.{name}") for name, own in BLOCK.items()}
            for name, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
                weight = f"layers.{layer}.self_attn.{name}.weight"
                tensors[weight] = halved(tensors[weight], config[heads])
        return cls(config, tensors, read_tokenizer(fields))

    def first(self, layers: int) -> "Llama":
        """Return the decoder of the first `layers` layers, with the final norm behind them."""
        others = tuple(f"layers.{layer}." for layer in range(layers, self.config["num_hidden_layers"]))
        tensors = {name: values for name, values in self.tensors.items() if not name.startswith(others)}
        return Llama(self.config | {"num_hidden_layers": layers}, tensors, self.tokenizer)


def read_config(fields: dict[str, Any], layers: int | None) -> dict[str, Any]:
    """Return the numbers of the decoder, of `layers` layers at most."""
    heads, hidden = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    count = fields["llama.block_count"]
    return {
        "hidden_size": hidden,
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": count if layers is None else min(count, layers),
        "num_attention_heads": heads,
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": hidden // heads,
        "vocab_size": fields["llama.vocab_size"],
        "max_position_embeddings": fields["llama.context_length"],
        # GGUF stores 1e-5 in float32; the shortest decimal that rounds to it is what the model's authors wrote.
        "rms_norm_eps": float(str(np.float32(fields["llama.attention.layer_norm_rms_epsilon"]))),
        "rope_theta": float(fields["llama.rope.freq_base"]),
    }


def halved(weight: Matrix, heads: int) -> Matrix:
    """Return q's or k's weight with the two rows of a rotary pair half a head apart, as transformers has them.

    GGUF has them side by side: llama.cpp's converter permutes them (`LlamaModel.permute` in convert_hf_to_gguf.py).
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


def read_tokenizer(fields: dict[str, Any]) -> Tokenizer:
    """Return the byte-level BPE tokenizer, whose pre-tokenizer llama.cpp calls `smollm`."""
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    end = (END_TOKEN, tokenizer.token_to_id(END_TOKEN))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END_TOKEN}", pair=f"$A {END_TOKEN} $B {END_TOKEN}", special_tokens=[end]
    )
    return tokenizer
