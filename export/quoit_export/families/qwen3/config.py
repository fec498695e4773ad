"""Read a dense Qwen3 decoder's numbers from config.json, after a check that the graph can represent it.

It reads the files that transformers 4 and 5 write, with the precedence of transformers 5. This module does not know
about tensors, texts or tasks.
"""

from pathlib import Path
from typing import Any

import msgspec

from quoit.errors import brief, shown
from quoit_export.errors import CheckpointError
from quoit_export.known_keys import TRANSFORMERS_CONFIG, Table, any_value, check_keys, empty, only

MAX_SIZE = 1 << 24
MAX_LAYERS = 1 << 10
MAX_FLOAT = 1e30
"""Maximum plausible size, number of layers and float; a larger number is a mistake, or an attack on memory."""

REMEDY = "use the original Qwen3 weights"


def full_attention(value: object) -> bool:
    """Accept null, and a list of layers that all attend to every earlier token."""
    return value is None or (isinstance(value, list) and all(layer == "full_attention" for layer in value))


CONFIG: Table = {
    **any_value("model_type", "architectures", "hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"),
    **any_value("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps"),
    **any_value("rope_theta", "rope_parameters", "rope_scaling", "tie_word_embeddings"),
    **TRANSFORMERS_CONFIG,
    **any_value("sliding_window", "max_window_layers"),
    # Keys that can change the model's function, with the values that do not change it.
    "hidden_act": only("silu", "swish"),
    "is_causal": only(True),
    "layer_types": full_attention,
    "partial_rotary_factor": only(None, 1),
    "use_qk_norm": only(None, True),
    "pretraining_tp": only(None, 1),
    **dict.fromkeys(("attention_bias", "mlp_bias", "use_sliding_window", "use_bidirectional_attention"), empty),
    **dict.fromkeys(("quantization_config", "compression_config", "per_layer_config", "auto_map"), empty),
    **dict.fromkeys(("is_encoder_decoder", "is_decoder", "add_cross_attention", "tie_encoder_decoder"), empty),
    **dict.fromkeys(("cross_attention_hidden_size", "pruned_heads", "prefix"), empty),
}
"""Keys of config.json."""

ROPE: Table = {
    **any_value("rope_type", "type", "rope_theta"),
    "partial_rotary_factor": only(None, 1),
    "factor": only(None, 1),
    "attention_factor": only(None, 1),
}
"""Keys of `rope_parameters` and `rope_scaling` in config.json."""


class Config(msgspec.Struct, frozen=True):
    """The numbers of a Qwen3 decoder, named as in transformers' `Qwen3Config`."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float


def read_config(config: dict[str, Any], folder: Path) -> Config:
    """Return the decoder's numbers, after a check that the graph can represent this config.json.

    Args:
        config: the content of config.json.
        folder: the folder of config.json, for messages.

    Raises:
        CheckpointError: the graph cannot represent the model, a number is missing or wrong, or a key is unknown.
    """
    check_keys(config, CONFIG, folder / "config.json", REMEDY)
    for key, kind in (("rope_parameters", dict), ("rope_scaling", dict), ("architectures", list)):
        if not isinstance(config.get(key) or kind(), kind):
            raise CheckpointError(
                f"{folder}/config.json sets {key} to {shown(config[key])}, which is no {kind.__name__}; correct it"
            )
    found = _read_numbers(config, _read_theta(config, folder), folder)
    if found.num_attention_heads % found.num_key_value_heads or found.head_dim % 16:
        raise CheckpointError(
            f"{folder}/config.json: num_attention_heads ({found.num_attention_heads}) must be a multiple of "
            f"num_key_value_heads ({found.num_key_value_heads}), and head_dim ({found.head_dim}) of 16; correct it"
        )
    return found


def _read_theta(config: dict[str, Any], folder: Path) -> object:
    """Return the base of the rotary embedding; as in transformers, `rope_scaling` overrides `rope_parameters`."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise CheckpointError(
            f"{folder}/config.json asks for {shown(kind)} RoPE scaling, which quoit does not export; set it "
            "to 'default' to use the native context"
        )
    check_keys(rope, ROPE, folder / "config.json", REMEDY)
    return rope.get("rope_theta", config.get("rope_theta"))


def _read_numbers(config: dict[str, Any], theta: object, folder: Path) -> Config:
    names = [name for name in Config.__struct_fields__ if name not in ("rms_norm_eps", "rope_theta")]
    sizes: dict[str, Any] = {name: config.get(name) for name in names}
    most = dict.fromkeys(names, MAX_SIZE) | {"num_hidden_layers": MAX_LAYERS}
    wrong = {name: value for name, value in sizes.items() if type(value) is not int or not 1 <= value <= most[name]}
    constants: dict[str, Any] = {"rope_theta": theta, "rms_norm_eps": config.get("rms_norm_eps")}
    wrong |= {
        name: value
        for name, value in constants.items()
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= MAX_FLOAT
    }
    if wrong:
        listed = brief(", ".join(f"{name}={shown(value)}" for name, value in wrong.items()))
        raise CheckpointError(
            f"{folder}/config.json needs positive numbers of a usual size, found {listed}; correct it"
        )
    return Config(**sizes, rms_norm_eps=float(constants["rms_norm_eps"]), rope_theta=float(constants["rope_theta"]))
