"""Author the layers of a dense Qwen3 decoder: norm, attention with normalised heads of q and k, norm, SwiGLU."""

import onnx_ir as ir

from quoit_export.families.qwen3.tensors import HEAD_NORMS, PARTS, QKV, layer_name
from quoit_export.graph.blocks import Blocks
from quoit_export.precisions.encoding import Rows


def author_layers(blocks: Blocks) -> ir.Value:
    """Author all layers and the final norm, and return the last tokens' states [N, hidden]."""
    author, inputs = blocks.author, blocks.inputs
    layers = blocks.architecture.attention.num_hidden_layers
    residual = blocks.embed()
    blocks.name_residual(residual, "embed_tokens")
    normed = blocks.stream_norm(residual, f"{layer_name(0)}.input_layernorm")
    for layer in range(layers):
        last, name = layer == layers - 1, layer_name(layer)
        tokens, slots = inputs["input_ids"], inputs.get("stream_slot")
        if last:
            # After the last attention only the texts' last tokens matter: the rest of the graph runs on N rows.
            tokens = inputs["last_row"]
            slots = tokens if slots is None else author.op("Gather", slots, tokens)
            residual = author.op("Gather", residual, inputs["last_row"])
        context = _attention(blocks, normed, slots, layer)
        attended = blocks.settle(blocks.linear(Rows(context), tokens, [f"{name}.self_attn.o_proj"])[0])
        normed, residual = blocks.add_norm(residual, attended, f"{name}.post_attention_layernorm")
        blocks.name_residual(residual, f"{name}.self_attn")
        following = blocks.architecture.final_norm if last else f"{layer_name(layer + 1)}.input_layernorm"
        linears = [f"{name}.mlp.{part}_proj" for part in ("gate", "up", "down")]
        normed, residual = blocks.add_norm(residual, blocks.swiglu(normed, tokens, *linears), following)
        blocks.name_residual(residual, f"{name}.mlp")
    return normed


def _attention(blocks: Blocks, x: ir.Value, slots: ir.Value | None, layer: int) -> ir.Value:
    """Author attention over `x` [T, hidden], and return the heads' outputs, [len(slots), heads * head_dim].

    The outputs are those at the rectangle's `slots`, or at all positions if it is None.
    """
    name = f"{layer_name(layer)}.self_attn"
    norms = [blocks.norm_weight(f"{name}.{norm}") for norm in HEAD_NORMS] if blocks.target.fused_norms else []
    return blocks.attending.attend(layer, _stream(blocks, x, name), norms, slots)


def _stream(blocks: Blocks, x: ir.Value, name: str) -> list[ir.Value]:
    """Return q, k and v of every stream row for attention.

    The heads of q and k are normalised here, unless the target's attention node does that.
    """
    attention = blocks.architecture.attention
    names = [f"{name}.{part}" for part in ((QKV,) if blocks.target.packed else PARTS)]
    parts = blocks.linear(Rows(x), blocks.inputs["input_ids"], names)
    if blocks.target.fused_norms:
        return [blocks.settle(part) for part in parts]
    query, key, value = map(Rows, blocks.attending.split(parts[0].values)) if blocks.target.packed else parts
    return [
        blocks.head_norm(query, attention.num_attention_heads, f"{name}.q_norm"),
        blocks.head_norm(key, attention.num_key_value_heads, f"{name}.k_norm"),
        blocks.settle(value),
    ]
