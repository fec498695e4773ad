"""Find the tensors of a checkpoint's folder: their files, names, shapes and dtypes.

Only headers are read. As in transformers, model.safetensors is preferred to shards and their index. This module does
not know how the tensors are used.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes  # noqa: F401  registers bfloat16 with numpy, which safetensors needs
from safetensors import SafetensorError, safe_open

from quoit.artifact import is_file
from quoit.errors import brief, shown
from quoit_export.checkpoint.json_files import describe_missing, read_json
from quoit_export.checkpoint.missing_files import INDEX, SINGLE, explain_missing_weights
from quoit_export.errors import CheckpointError

FLOAT_DTYPES = ("BF16", "F16", "F32")
ADAPTER = "adapter_config.json"
EMBEDDINGS = "embed_tokens.weight"
LM_HEAD = "lm_head.weight"
SCORE = "score.weight"
BUFFERS = re.compile(r"(.+\.)?rotary_emb\.(inv_freq|original_inv_freq|cos_cached|sin_cached)")
"""Pattern of tensors that older versions stored; transformers computes them from config.json."""
PREFIXES = {
    "base_model.model.": "merge the adapter with peft's merge_and_unload(), and save that",
    "module.": "save `model.module` of the parallel wrapper instead",
    "_orig_mod.": "save `model._orig_mod` of torch.compile instead",
    "0.auto_model.": "save it with SentenceTransformer.save_pretrained",
}
"""Next step for each known foreign prefix of tensor names."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        file: path of the file.
        name: name of the tensor in that file.
        shape: shape of the tensor.
        dtype: dtype of the tensor, as safetensors names it.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def check_no_adapter(folder: Path) -> None:
    """Refuse a folder with an adapter, which transformers and sentence-transformers would apply to the weights.

    Raises:
        CheckpointError: the folder holds an adapter.
    """
    if is_file(folder / ADAPTER):
        raise CheckpointError(
            f"{folder} holds a PEFT adapter ({ADAPTER}); merge it into its base model with peft's merge_and_unload(), "
            f"and save that without {ADAPTER}"
        )


def find_tensors(folder: Path) -> dict[str, Stored]:
    """Return all stored tensors by name, without the "model." prefix of Qwen3ForCausalLM.

    Raises:
        CheckpointError: a file is missing or damaged, or two tensors have the same name.
    """
    found: dict[str, Stored] = {}
    for shard in _shards(folder):
        for stored in _headers(shard):
            name = stored.name.removeprefix("model.")
            if BUFFERS.fullmatch(name):
                continue
            if name in found:
                both = f"{found[name].name} in {found[name].file.name} and {stored.name} in {shard.name}"
                raise CheckpointError(
                    f"{folder} holds a tensor twice, {brief(both)}; remove one of them, or use the original checkpoint"
                )
            found[name] = stored
    return found


def _shards(folder: Path) -> list[Path]:
    if is_file(folder / SINGLE):
        return [folder / SINGLE]
    index = folder / INDEX
    if not is_file(index):
        raise CheckpointError(explain_missing_weights(folder))
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map; fetch the checkpoint again")
    names = sorted(set(weight_map.values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise CheckpointError(f"{index} names shards outside {folder}, {shown(outside)}; do not use this checkpoint")
    missing = [name for name in names if not is_file(folder / name)]
    if missing:
        raise CheckpointError(describe_missing(folder / missing[0]))
    return [folder / name for name in names]


def _headers(shard: Path) -> list[Stored]:
    try:
        with safe_open(shard, "np") as tensors:
            names: list[str] = list(tensors.keys())
            headers = [tensors.get_slice(name) for name in names]
            return [
                Stored(shard, name, tuple(header.get_shape()), header.get_dtype())
                for name, header in zip(names, headers, strict=True)
            ]
    except SafetensorError as error:
        raise CheckpointError(f"{shard} is no readable safetensors file: {brief(error)}; fetch it again") from error


def check_needed(needed: Mapping[str, tuple[int, ...]], found: Mapping[str, Stored], folder: Path) -> None:
    """Check that every needed tensor is stored with the shape that the configuration implies.

    Raises:
        CheckpointError: a tensor is missing, or has another shape or a type that quoit does not read.
    """
    missing = [name for name in needed if name not in found]
    if missing:
        _check_prefix(found, folder)
        lacks = f"{len(missing)} of {len(needed)} tensors:" if len(needed) > 1 else "the tensor"
        raise CheckpointError(f"{folder} lacks {lacks} {_some(missing)}; is it complete? fetch it again")
    for name, shape in needed.items():
        has, dtype = found[name].shape, found[name].dtype
        if has != shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {list(has)}, config.json implies {list(shape)}; they belong to "
                "different models, fetch both again from one checkpoint"
            )
        if dtype not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{folder}: {name} is stored as {dtype}; quoit reads {', '.join(FLOAT_DTYPES)}: use the "
                "original weights"
            )


def check_extra(needed: Collection[str], found: Iterable[str], folder: Path, title: str) -> None:
    """Refuse stored tensors that the model does not need, except heads, which only some tasks need.

    Raises:
        CheckpointError: a tensor is unknown.
    """
    extra = [name for name in found if name not in needed and name not in (LM_HEAD, SCORE)]
    if extra:
        raise CheckpointError(
            f"{folder} holds {len(extra)} tensors that a {title} model does not have: {_some(extra)}; "
            "merge adapters into the weights, or use the original checkpoint"
        )


def _check_prefix(found: Iterable[str], folder: Path) -> None:
    """Refuse tensor names with a foreign prefix; transformers finds no tensor then, and initializes random ones."""
    table = next((name for name in found if name.endswith(f".{EMBEDDINGS}")), None)
    if table is None:
        return
    known = next((prefix for prefix in PREFIXES if table.startswith(prefix)), None)
    prefix = known or table.removesuffix(EMBEDDINGS)
    step = PREFIXES.get(prefix, "save it without that prefix")
    raise CheckpointError(f"{folder} holds its tensors under the prefix {shown(prefix)}; {step}")


def _some(names: list[str]) -> str:
    some = brief(", ".join(names[:4]))
    return some if len(names) <= 4 else f"{some}, …"
