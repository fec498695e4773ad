"""Errors of the config.json of a checkpoint."""

from messages.harness import LONG, Case, Command
from messages.triggers import replaced, with_config
from quoit_export.errors import CheckpointError

SETTINGS = {"quant_method": "awq", "modules_to_not_convert": [f"model.layers.{layer}" for layer in range(200)]}
"""Such as quantized checkpoints have, at full length."""


CASES = [
    Case(
        "no configuration",
        Command("quoit-export", lambda world: [str(world.folder), str(world.folder / "out")]),
        CheckpointError,
        "/config.json is missing",
        "fetch it again",
    ),
    Case("half a configuration", replaced("config.json", "{"), CheckpointError, "/config.json", "fetch the checkpoint"),
    Case("a list of settings", replaced("config.json", "[]"), CheckpointError, "/config.json", "fetch the checkpoint"),
    Case("another model", with_config(model_type="llama"), CheckpointError, "model_type 'llama'", "use one of those"),
    Case("a model's long name", with_config(model_type=LONG), CheckpointError, "model_type 'xxx", "use one of those"),
    Case("RoPE as a word", with_config(rope_scaling="linear"), CheckpointError, "rope_scaling to 'linear'", "correct"),
    Case(
        "another activation",
        with_config(hidden_act="gelu"),
        CheckpointError,
        "hidden_act to 'gelu'",
        "use the original Qwen3 weights",
    ),
    Case(
        "a quantized checkpoint",
        with_config(quantization_config=SETTINGS),
        CheckpointError,
        "quantization_config to {'quant_method': 'awq'",
        "use the original Qwen3 weights",
    ),
    Case(
        "RoPE scaling",
        with_config(rope_scaling={"rope_type": "yarn", "factor": 4.0}),
        CheckpointError,
        "'yarn' RoPE scaling",
        "set it to 'default'",
    ),
    Case("a size that is a word", with_config(hidden_size="96"), CheckpointError, "hidden_size='96'", "correct it"),
    Case("a size that is long", with_config(hidden_size=LONG), CheckpointError, "hidden_size='xxx", "correct it"),
    Case("no theta", with_config(rope_parameters=None), CheckpointError, "rope_theta=None", "correct it"),
    Case(
        "heads that do not divide",
        with_config(num_key_value_heads=3),
        CheckpointError,
        "num_key_value_heads (3)",
        "correct",
    ),
    Case(
        "no context length",
        with_config(max_position_embeddings=None),
        CheckpointError,
        "max_position_embeddings None",
        "set the context length",
    ),
    Case("an unknown key", with_config(extra_scale=2), CheckpointError, "extra_scale to 2", "remove it from the file"),
    Case("an unknown key that is long", with_config(**{LONG: LONG}), CheckpointError, "sets xxx", "remove it from the"),
    Case(
        "attention both ways", with_config(is_causal=False), CheckpointError, "is_causal to False", "use the original"
    ),
]
