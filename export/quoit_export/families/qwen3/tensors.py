"""Describe the tensors of a dense Qwen3 decoder: their names, their shapes, and the inputs of its linear layers.

Names have no `model.` prefix, whatever a checkpoint's files call them.
"""

from quoit.artifact import Costs
from quoit_export.families.qwen3.config import Config
from quoit_export.graph.architecture import LinearInput

TOKEN_TABLE = "embed_tokens.weight"
FINAL_NORM = "norm"
QKV = "qkv_proj"
"""Name of the linear layer that packs a checkpoint's `q_proj`, `k_proj` and `v_proj`."""
PARTS = ("q_proj", "k_proj", "v_proj")
HEAD_NORMS = ("q_norm", "k_norm")
STREAM_NORMS = ("input_layernorm", "post_attention_layernorm")
STREAM_WRITERS = ("self_attn.o_proj", "mlp.down_proj")


def layer_name(layer: int) -> str:
    """Return the prefix of a decoder layer's names."""
    return f"layers.{layer}"


def linear_shapes(config: Config) -> dict[str, tuple[int, int]]:
    """Return the linear layers of one decoder layer, with their weights' shapes [out, in]."""
    hidden, inner = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads * config.head_dim
    kv_heads = config.num_key_value_heads * config.head_dim
    return {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (kv_heads, hidden),
        "self_attn.v_proj": (kv_heads, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return every tensor that the graph needs, with its shape."""
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        TOKEN_TABLE: (config.vocab_size, hidden),
        f"{FINAL_NORM}.weight": (hidden,),
    }
    for layer in map(layer_name, range(config.num_hidden_layers)):
        shapes |= {f"{layer}.{name}.weight": shape for name, shape in linear_shapes(config).items()}
        shapes |= {f"{layer}.{name}.weight": (hidden,) for name in STREAM_NORMS}
        shapes |= {f"{layer}.self_attn.{name}.weight": (config.head_dim,) for name in HEAD_NORMS}
    return shapes


def linear_inputs(config: Config) -> tuple[LinearInput, ...]:
    """Return the inputs of the linear layers, layer by layer."""
    found: list[LinearInput] = []
    for layer in range(config.num_hidden_layers):
        name, last = layer_name(layer), layer == config.num_hidden_layers - 1
        attention, mlp = f"{name}.self_attn", f"{name}.mlp"
        norms = [f"{name}.{norm}" for norm in STREAM_NORMS]
        found += [
            LinearInput(layer, tuple(f"{attention}.{part}" for part in PARTS), norm=norms[0]),
            LinearInput(layer, (f"{attention}.o_proj",), producer=f"{attention}.v_proj", heads=True, of_answers=last),
            LinearInput(layer, (f"{mlp}.gate_proj", f"{mlp}.up_proj"), norm=norms[1], of_answers=last),
            LinearInput(layer, (f"{mlp}.down_proj",), producer=f"{mlp}.up_proj", gated=True, of_answers=last),
        ]
    return tuple(found)


def stream_writers(config: Config) -> frozenset[str]:
    """Return the linear layers whose results are added to the residual stream."""
    return frozenset(
        f"{layer_name(layer)}.{part}" for layer in range(config.num_hidden_layers) for part in STREAM_WRITERS
    )


def packed_linears(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the packed linear layer of every decoder layer, with its parts q, k and v."""
    names = [f"{layer_name(layer)}.self_attn" for layer in range(config.num_hidden_layers)]
    return {f"{name}.{QKV}": tuple(f"{name}.{part}" for part in PARTS) for name in names}


def costs_of(config: Config) -> Costs:
    """Return the costs of a batch: operations, weights, product shapes, and values in memory.

    The hidden size is h, the intermediate size is i, there are L layers, q = heads * head_dim, k = kv_heads * head_dim.

    - A token costs 2 L h (q + 2k) operations for the q, k and v that attention reads.
    - It costs 2 (L - 1) (q h + 3 h i) operations after attention, since the last layer runs on answering tokens alone.
    - A pair of tokens costs 2 L q operations for queries times keys, and as many for scores times values.

    Within a layer, memory holds these values for each position: the residual before and after, and the results of a
    norm and of a linear layer. It also holds the larger of two sets. One is q, k and v, the same again with their norms
    and positions, and the context. The other is gate, up and their product.
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    query, key = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    qkv = query + 2 * key
    inward, outward = hidden * qkv, query * hidden + 3 * hidden * inner
    return Costs(
        token_operations=2 * (layers * inward + (layers - 1) * outward),
        answer_operations=2 * outward,
        pair_operations=4 * layers * query,
        weights=layers * (inward + outward),
        products=((hidden, query), (hidden, inner), (inner, hidden)),
        position_values=4 * hidden + max(2 * qkv + query, 3 * inner),
    )
