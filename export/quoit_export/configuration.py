"""What a checkpoint's JSON files say: architecture, task, and the contract of that task.

Reads what transformers 4 and 5 and sentence-transformers write, and refuses what the graph could not
represent. This module does not know about tensors' values.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from quoit.artifact import TOKENIZER, Architecture, Contract, EmbeddingContract, RerankContract, Task, is_file
from quoit.errors import brief, shown
from quoit.prompts import DEFAULT_TASK, RERANK_PREFIX, RERANK_SUFFIX
from quoit.tokens import refusing
from quoit_export.errors import CheckpointError

MIN_MRL_DIM = 32
"""The smallest dimension of the Matryoshka range that the Qwen3-Embedding model cards give."""

MOST = 1 << 24
MOST_LAYERS = 1 << 10
FLOAT_MAX = 1e30
"""Beyond these, a number is a mistake, or an attack on memory."""

ANSWERS = ("yes", "no")
CLASSIFIER = "Qwen3ForSequenceClassification"
GENERATOR = "Qwen3ForCausalLM"


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    if not is_file(file):
        raise CheckpointError(
            f"{file} is missing; {file.parent} is not a complete checkpoint, fetch it again or name another folder"
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}; fetch the checkpoint again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds no JSON object; fetch the checkpoint again")
    return found


def read_architecture(config: dict[str, Any], folder: Path) -> Architecture:
    """The architecture's numbers, after a check that the graph can represent this configuration."""
    model_type = config.get("model_type")
    if model_type != "qwen3":
        raise CheckpointError(
            f"{folder} has model_type {shown(model_type)}; quoit exports dense Qwen3 models (model_type 'qwen3'), "
            "use one of those"
        )
    for key, kind in (("rope_parameters", dict), ("rope_scaling", dict), ("architectures", list)):
        if not isinstance(config.get(key) or kind(), kind):
            raise CheckpointError(
                f"{folder}/config.json sets {key} to {shown(config[key])}, which is no {kind.__name__}; correct it"
            )
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or rope
    refused = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(config.get("attention_bias", False)),
        "use_sliding_window": bool(config.get("use_sliding_window", False)),
        "quantization_config": config.get("quantization_config") is not None,
    }
    for key, refuse in refused.items():
        if refuse:
            raise CheckpointError(
                f"{folder}/config.json sets {key} to {shown(config[key])}, which quoit does not export; use the "
                "original Qwen3 weights"
            )
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise CheckpointError(
            f"{folder}/config.json asks for {shown(kind)} RoPE scaling, which quoit does not export; set it "
            "to 'default' to use the native context"
        )
    names = [name for name in Architecture.__struct_fields__ if name not in ("rms_norm_eps", "rope_theta")]
    sizes: dict[str, Any] = {name: config.get(name) for name in names}
    most = dict.fromkeys(names, MOST) | {"num_hidden_layers": MOST_LAYERS}
    wrong = {name: value for name, value in sizes.items() if type(value) is not int or not 1 <= value <= most[name]}
    theta = rope.get("rope_theta", config.get("rope_theta"))
    eps = config.get("rms_norm_eps")
    wrong |= {
        name: value
        for name, value in {"rope_theta": theta, "rms_norm_eps": eps}.items()
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= FLOAT_MAX
    }
    if wrong:
        listed = brief(", ".join(f"{name}={shown(value)}" for name, value in wrong.items()))
        raise CheckpointError(
            f"{folder}/config.json needs positive numbers of a usual size, found {listed}; correct it"
        )
    numbers = Architecture(**sizes, rms_norm_eps=float(eps or 0), rope_theta=float(theta or 0))
    if numbers.num_attention_heads % numbers.num_key_value_heads or numbers.head_dim % 16:
        raise CheckpointError(
            f"{folder}/config.json: num_attention_heads ({numbers.num_attention_heads}) must be a multiple of "
            f"num_key_value_heads ({numbers.num_key_value_heads}), and head_dim ({numbers.head_dim}) of 16; correct it"
        )
    return numbers


def read_max_tokens(config: dict[str, Any], folder: Path) -> int:
    """The context length."""
    found = config.get("max_position_embeddings")
    if type(found) is not int or not 2 <= found <= MOST:
        raise CheckpointError(
            f"{folder}/config.json has max_position_embeddings {shown(found)}; set the context length"
        )
    return found


def recognise_task(folder: Path, config: dict[str, Any], stored_names: Collection[str]) -> Task:
    """Embedding checkpoints come with sentence-transformers modules or bare `Qwen3Model` tensor names.

    `architectures` alone does not tell: Qwen3-Embedding's config.json says Qwen3ForCausalLM.
    """
    pooled = any("Pooling" in str(module.get("type")) for module in _modules(folder))
    bare = "embed_tokens.weight" in stored_names
    if pooled or (bare and "lm_head.weight" not in stored_names):
        return "embedding"
    architectures = config.get("architectures") or []
    if GENERATOR in architectures or CLASSIFIER in architectures:
        return "rerank"
    raise CheckpointError(
        f"{folder} may be an embedding model or a reranker (architectures {shown(architectures)}); say which with "
        "`--task embedding` or `--task rerank`"
    )


def _modules(folder: Path) -> list[dict[str, Any]]:
    file = folder / "modules.json"
    if not file.is_file():
        return []
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}; fetch the checkpoint again") from error
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise CheckpointError(f"{file} holds no list of modules; fetch the checkpoint again")
    return found


def check_modules(folder: Path) -> None:
    """The sentence-transformers pipeline, where there is one, must be last-token pooling and no more."""
    for module in _modules(folder):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise CheckpointError(
                f"{folder}/modules.json has a {brief(kind)} module, which quoit does not export; use a checkpoint of "
                "Transformer, Pooling and Normalize"
            )
        if kind == "Pooling":
            path = str(module.get("path", ""))
            if Path(path).name != path:
                raise CheckpointError(f"{folder}/modules.json names a folder elsewhere, {shown(path)}; do not use it")
            pooling = read_json(folder / path / "config.json")
            modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
            if modes != ["pooling_mode_lasttoken"] and (modes or pooling.get("pooling_mode") != "lasttoken"):
                raise CheckpointError(
                    f"{folder} does not pool the last token ({shown(pooling)}); quoit exports last-token pooling only, "
                    "use a checkpoint that has it"
                )


def read_prompts(folder: Path) -> dict[str, str]:
    """The prompts of sentence-transformers by their names; none where there is no such file."""
    file = folder / "config_sentence_transformers.json"
    if not file.is_file():
        return {}
    prompts = read_json(file).get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(v, str) for v in prompts.values()):
        raise CheckpointError(f"{file} has prompts that are not text: {shown(prompts)}; correct it")
    return prompts


def is_classifier(config: dict[str, Any]) -> bool:
    """Whether the score comes from a classification head, and not from the logits of two tokens."""
    return CLASSIFIER in (config.get("architectures") or [])


def read_contract(folder: Path, config: dict[str, Any], task: Task, numbers: Architecture) -> Contract:
    """What surrounds a text, by the checkpoint's tokenizer and prompts."""
    tokenizer = read_tokenizer(folder / TOKENIZER, numbers.vocab_size)
    if task == "embedding":
        return EmbeddingContract(
            prompts=read_prompts(folder),
            end_token_id=read_end_token_id(tokenizer, folder),
            min_dim=min(MIN_MRL_DIM, numbers.hidden_size),
        )
    yes, no = (None, None) if is_classifier(config) else (read_answer_id(tokenizer, folder, word) for word in ANSWERS)
    return RerankContract(
        prefix=RERANK_PREFIX, suffix=RERANK_SUFFIX, instruction=DEFAULT_TASK, yes_token_id=yes, no_token_id=no
    )


def read_end_token_id(tokenizer: Tokenizer, folder: Path) -> int:
    """The id that the tokenizer's own post-processor appends to every text."""
    with refusing(CheckpointError, f"{folder / TOKENIZER} encodes nothing", "fetch it again"):
        ids, some = tokenizer.encode("").ids, tokenizer.encode("a").ids
    if len(ids) != 1 or some[-1:] != ids:
        raise CheckpointError(
            f"{folder / TOKENIZER} appends {len(ids)} tokens to a text instead of one end token behind it; "
            "Qwen3-Embedding pools the state of an appended <|endoftext|>: use its tokenizer.json"
        )
    return int(ids[0])


def read_answer_id(tokenizer: Tokenizer, folder: Path, word: str) -> int:
    """The id of an answer, which must be a single token."""
    with refusing(CheckpointError, f"{folder / TOKENIZER} cannot encode {word!r}", "fetch it again"):
        ids = tokenizer.encode(word, add_special_tokens=False).ids
    if len(ids) != 1:
        raise CheckpointError(
            f"{folder / TOKENIZER} makes {len(ids)} tokens of {word!r}, and a reranker answers with one; use "
            "Qwen3-Reranker's tokenizer.json"
        )
    return int(ids[0])


def read_tokenizer(file: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer, after a check that the model has an embedding for each of its ids."""
    if not file.is_file():
        raise CheckpointError(
            f"{file} is missing; {file.parent} is not a complete checkpoint, fetch it again or name another folder"
        )
    tokenizer = _load_tokenizer(file)
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocab_size:
        raise CheckpointError(
            f"{file} has token ids up to {largest}, but the model has {vocab_size} embeddings; they belong to "
            "different models, fetch both again from one checkpoint"
        )
    return tokenizer


def _load_tokenizer(file: Path) -> Tokenizer:
    with refusing(CheckpointError, f"{file} is no readable tokenizer", "fetch it again"):
        return Tokenizer.from_file(str(file))
