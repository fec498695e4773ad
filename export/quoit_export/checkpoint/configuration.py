"""config.json: the numbers of a dense Qwen3 decoder, after a check that the graph can represent it.

Reads what transformers 4 and 5 write, with the precedence of transformers 5. This module does not know about tensors,
texts or tasks.
"""

from pathlib import Path
from typing import Any

from quoit.artifact import Architecture
from quoit.errors import brief, shown
from quoit_export.checkpoint.known_keys import CONFIG, ROPE, check_keys
from quoit_export.errors import CheckpointError

MAX_SIZE = 1 << 24
MAX_LAYERS = 1 << 10
MAX_FLOAT = 1e30
"""Beyond these, a number is a mistake, or an attack on memory."""

CLASSIFIER = "Qwen3ForSequenceClassification"
GENERATOR = "Qwen3ForCausalLM"
REMEDY = "use the original Qwen3 weights"


def read_architecture(config: dict[str, Any], folder: Path) -> Architecture:
    """The architecture's numbers, after a check that the graph can represent this configuration.

    Raises:
        CheckpointError: the model is no dense Qwen3 decoder, or a key is unknown.
    """
    model_type = config.get("model_type")
    if model_type != "qwen3":
        raise CheckpointError(
            f"{folder} has model_type {shown(model_type)}; quoit exports dense Qwen3 models (model_type 'qwen3'), "
            "use one of those"
        )
    check_keys(config, CONFIG, folder / "config.json", REMEDY)
    for key, kind in (("rope_parameters", dict), ("rope_scaling", dict), ("architectures", list)):
        if not isinstance(config.get(key) or kind(), kind):
            raise CheckpointError(
                f"{folder}/config.json sets {key} to {shown(config[key])}, which is no {kind.__name__}; correct it"
            )
    numbers = _read_numbers(config, _read_theta(config, folder), folder)
    if numbers.num_attention_heads % numbers.num_key_value_heads or numbers.head_dim % 16:
        raise CheckpointError(
            f"{folder}/config.json: num_attention_heads ({numbers.num_attention_heads}) must be a multiple of "
            f"num_key_value_heads ({numbers.num_key_value_heads}), and head_dim ({numbers.head_dim}) of 16; correct it"
        )
    return numbers


def _read_theta(config: dict[str, Any], folder: Path) -> object:
    """The base of the rotary embedding; as in transformers, `rope_scaling` comes before `rope_parameters`."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise CheckpointError(
            f"{folder}/config.json asks for {shown(kind)} RoPE scaling, which quoit does not export; set it "
            "to 'default' to use the native context"
        )
    check_keys(rope, ROPE, folder / "config.json", REMEDY)
    return rope.get("rope_theta", config.get("rope_theta"))


def _read_numbers(config: dict[str, Any], theta: object, folder: Path) -> Architecture:
    names = [name for name in Architecture.__struct_fields__ if name not in ("rms_norm_eps", "rope_theta")]
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
    return Architecture(
        **sizes, rms_norm_eps=float(constants["rms_norm_eps"]), rope_theta=float(constants["rope_theta"])
    )


def read_position_limit(config: dict[str, Any], folder: Path) -> int:
    """The context length, `max_position_embeddings`."""
    found = config.get("max_position_embeddings")
    if type(found) is not int or not 2 <= found <= MAX_SIZE:
        raise CheckpointError(
            f"{folder}/config.json has max_position_embeddings {shown(found)}; set the context length"
        )
    return found


def is_classifier(config: dict[str, Any]) -> bool:
    """Whether the score comes from a classification head, and not from the logits of two tokens."""
    return CLASSIFIER in (config.get("architectures") or [])


def is_generator(config: dict[str, Any]) -> bool:
    """Whether config.json names a causal language model, as that of Qwen3-Reranker does."""
    return GENERATOR in (config.get("architectures") or [])
