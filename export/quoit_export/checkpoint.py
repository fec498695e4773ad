"""A checkpoint: a local folder or a hub snapshot, and its tensors by name.

Tensors are read one at a time from memory-mapped safetensors; nothing here holds a whole model. This module
does not know what the tensors become.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  registers bfloat16 with numpy, which safetensors needs
import numpy as np
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from quoit.artifact import TOKENIZER, Architecture, Contract, RerankContract, Source, Task, hash_file, is_file
from quoit.errors import brief, shown
from quoit_export.configuration import (
    check_modules,
    is_classifier,
    read_architecture,
    read_contract,
    read_json,
    read_max_tokens,
    recognise_task,
)
from quoit_export.errors import CheckpointError

HUB_FILES = ("*.json", "*.safetensors")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FLOAT_DTYPES = ("BF16", "F16", "F32")
SCORE = "score.weight"
LM_HEAD = "lm_head.weight"
EMBEDDINGS = "embed_tokens.weight"

LAYER_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint. Tensor names have no `model.` prefix here, whatever the files call them.

    `score_tensor` is what a reranker's score is made of: a classification head [1, hidden], or the vocabulary's head
    [vocab, hidden] with its rows for the answers.
    """

    folder: Path
    source: Source
    contract: Contract
    architecture: Architecture
    max_tokens: int
    score_tensor: str | None
    files: dict[str, tuple[Path, str]]

    def tensor(self, name: str) -> NDArray[Any]:
        """A tensor in its stored dtype (bfloat16, float16 or float32), freshly read.

        Raises:
            CheckpointError: it cannot be read, or holds NaN or infinity.
        """
        return self._read(name)

    def score_weight(self) -> NDArray[np.float32]:
        """The vector [hidden] whose product with a pair's state is its score, logit(yes) - logit(no)."""
        contract = self.contract
        if self.score_tensor is None or not isinstance(contract, RerankContract):
            raise CheckpointError(f"{self.folder} is for embedding and has no score; export it with --task embedding")
        if contract.yes_token_id is None or contract.no_token_id is None:
            return self._read(self.score_tensor, 0).astype(np.float32)
        yes, no = (
            self._read(self.score_tensor, row).astype(np.float32)
            for row in (contract.yes_token_id, contract.no_token_id)
        )
        difference: NDArray[np.float32] = yes - no
        return difference

    def _read(self, name: str, row: int | None = None) -> NDArray[Any]:
        file, stored = self.files[name]
        try:
            with safe_open(file, "np") as shard:
                values: NDArray[Any] = shard.get_tensor(stored) if row is None else shard.get_slice(stored)[row]
        except SafetensorError as error:
            raise CheckpointError(f"cannot read {stored} from {file}: {brief(error)}; fetch it again") from error
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{stored} in {file} holds NaN or infinity; the checkpoint is damaged, use another one"
            )
        return values

    @property
    def tokenizer_file(self) -> Path:
        """The checkpoint's tokenizer.json."""
        return self.folder / TOKENIZER


def linear_shapes(numbers: Architecture) -> dict[str, tuple[int, int]]:
    """The linear layers of one decoder layer and their weights' shapes [out, in]."""
    hidden, inner = numbers.hidden_size, numbers.intermediate_size
    heads = numbers.num_attention_heads * numbers.head_dim
    kv_heads = numbers.num_key_value_heads * numbers.head_dim
    return {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (kv_heads, hidden),
        "self_attn.v_proj": (kv_heads, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def tensor_shapes(numbers: Architecture) -> dict[str, tuple[int, ...]]:
    """Every tensor the graph needs, and its shape."""
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDINGS: (numbers.vocab_size, numbers.hidden_size),
        "norm.weight": (numbers.hidden_size,),
    }
    for layer in range(numbers.num_hidden_layers):
        for name, shape in linear_shapes(numbers).items():
            shapes[f"layers.{layer}.{name}.weight"] = shape
        for name in LAYER_NORMS:
            width = numbers.head_dim if name.startswith("self_attn") else numbers.hidden_size
            shapes[f"layers.{layer}.{name}.weight"] = (width,)
    return shapes


def open_checkpoint(name: str, *, revision: str | None = None, task: Task | None = None) -> Checkpoint:
    """Opens a local checkpoint folder, or fetches one from the Hugging Face hub.

    Args:
        name: a folder, or a hub id such as `Qwen/Qwen3-Embedding-0.6B`. The hub is asked through
            huggingface_hub, which keeps its own cache and honours `HF_HUB_OFFLINE`.
        revision: a branch, tag or commit of the hub repository.
        task: what the checkpoint is for, where its files leave that open.

    Raises:
        CheckpointError: it cannot be found, is incomplete, or is not a dense Qwen3 model.
    """
    folder, revision = _locate(name, revision)
    config = read_json(folder / "config.json")
    numbers = read_architecture(config, folder)
    files = _index_tensors(folder)
    task = task or recognise_task(folder, config, files)
    score_tensor = _score_tensor(config) if task == "rerank" else None
    _check_tensors(needed_shapes(numbers, score_tensor), files, folder)
    if task == "embedding":
        check_modules(folder)
    shards = sorted({file for file, _ in files.values()})
    hashes = [hash_file(file) for file in tqdm(shards, desc="hashing", unit=" files", disable=None)]
    weights = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return Checkpoint(
        folder=folder,
        source=Source(id=_source_id(name, folder), revision=revision, weights_sha256=weights),
        contract=read_contract(folder, config, task, numbers),
        architecture=numbers,
        max_tokens=read_max_tokens(config, folder),
        score_tensor=score_tensor,
        files={plain_name(stored): (file, stored) for stored, (file, _) in files.items()},
    )


def plain_name(stored: str) -> str:
    """A tensor's name without the `model.` that `Qwen3ForCausalLM` puts before it."""
    return stored.removeprefix("model.")


def _locate(name: str, revision: str | None) -> tuple[Path, str | None]:
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{name} is a local folder, which has no revision {revision!r}; leave it out")
        return folder, None
    if not HUB_ID.fullmatch(name):
        raise CheckpointError(f"{name} is no folder, and no hub id like Qwen/Qwen3-Embedding-0.6B; check the spelling")
    try:
        snapshot = Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"cannot fetch {name} from the hub ({type(error).__name__}: {reason}); check the id and the "
            "network, or give the path of a local folder"
        ) from error
    return snapshot, snapshot.name


def _source_id(name: str, folder: Path) -> str:
    return name if not Path(name).is_dir() else folder.resolve().name


def _index_tensors(folder: Path) -> dict[str, tuple[Path, Any]]:
    """Every stored tensor: its file and its shape slice header (shape, dtype)."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
            raise CheckpointError(f"{index} has no weight_map; fetch the checkpoint again")
        names = sorted(set(weight_map.values()))
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise CheckpointError(
                f"{index} names shards outside {folder}, {shown(outside)}; do not use this checkpoint"
            )
        shards = [folder / name for name in names]
    else:
        shards = [folder / "model.safetensors"]
    found: dict[str, tuple[Path, Any]] = {}
    for shard in shards:
        if not is_file(shard):
            raise CheckpointError(
                f"{shard} is missing; {folder} is not a complete checkpoint, fetch it again or name another folder"
            )
        try:
            with safe_open(shard, "np") as tensors:
                for name in tensors.keys():  # noqa: SIM118  safe_open is no mapping
                    header = tensors.get_slice(name)
                    found[name] = (shard, (tuple(header.get_shape()), header.get_dtype()))
        except SafetensorError as error:
            raise CheckpointError(f"{shard} is no readable safetensors file: {brief(error)}; fetch it again") from error
    return found


def _score_tensor(config: dict[str, Any]) -> str:
    """What a reranker's score is made of; `Qwen3Config` leaves the vocabulary's head untied by default."""
    if is_classifier(config):
        return SCORE
    return EMBEDDINGS if config.get("tie_word_embeddings", False) else LM_HEAD


def needed_shapes(numbers: Architecture, score_tensor: str | None) -> dict[str, tuple[int, ...]]:
    """Every tensor an export needs, and its shape; a classification head has one label."""
    heads = {SCORE: (1, numbers.hidden_size), LM_HEAD: (numbers.vocab_size, numbers.hidden_size)}
    return tensor_shapes(numbers) | ({score_tensor: heads[score_tensor]} if score_tensor in heads else {})


def _check_tensors(needed: dict[str, tuple[int, ...]], files: dict[str, tuple[Path, Any]], folder: Path) -> None:
    """Every needed tensor is there with the shape the configuration implies, and none is left over."""
    found = {plain_name(stored): header for stored, (_, header) in files.items()}
    missing = [name for name in needed if name not in found]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of {len(needed)} tensors: {_some(missing)}; is it complete? fetch it again"
        )
    for name, shape in needed.items():
        has, dtype = found[name]
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
    extra = [name for name in found if name not in needed and name not in (LM_HEAD, SCORE)]
    if extra:
        raise CheckpointError(
            f"{folder} holds {len(extra)} tensors that a dense Qwen3 model does not have: {_some(extra)}; "
            "merge adapters into the weights, or use the original checkpoint"
        )


def _some(names: list[str]) -> str:
    some = brief(", ".join(names[:4]))
    return some if len(names) <= 4 else f"{some}, …"
