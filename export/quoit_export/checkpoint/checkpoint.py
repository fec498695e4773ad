"""Open a checkpoint, a local folder or a hub snapshot, and read its tensors by name.

Tensors are read one at a time from memory-mapped safetensors; nothing here holds a whole model. This module does not
know how the tensors are used.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from quoit.artifact import TOKENIZER, Contract, RerankContract, Source, Task, hash_file, is_file
from quoit.errors import brief
from quoit.hub.names import hub_name
from quoit_export.checkpoint.contracts import (
    CheckpointFiles,
    read_contract,
    read_files,
    read_max_tokens,
    recognise_task,
    warn_how_it_reranks,
)
from quoit_export.checkpoint.json_files import read_json
from quoit_export.checkpoint.location import locate
from quoit_export.checkpoint.missing_files import explain_missing_config
from quoit_export.checkpoint.modules import read_modules
from quoit_export.checkpoint.weights import (
    LM_HEAD,
    SCORE,
    Stored,
    check_extra,
    check_needed,
    check_no_adapter,
    find_tensors,
)
from quoit_export.errors import CheckpointError
from quoit_export.families import read_architecture
from quoit_export.graph.architecture import Architecture


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint. Tensor names have no `model.` prefix here, whatever the files call them.

    Attributes:
        folder: the folder of config.json, the weights and the tokenizer.
        source: the id, revision and hash of the weights, for the manifest.
        contract: the contract of the checkpoint's task.
        architecture: the architecture of the model.
        max_tokens: maximum number of tokens of a text.
        score_tensor: name of the tensor that gives a reranker's score: a classification head [1, hidden], or the
            vocabulary's head [vocab, hidden], whose rows for the answers count; None for an embedding model.
        files: the stored tensors by name.
    """

    folder: Path
    source: Source
    contract: Contract
    architecture: Architecture
    max_tokens: int
    score_tensor: str | None
    files: dict[str, Stored]

    def tensor(self, name: str) -> NDArray[Any]:
        """Read a tensor in its stored dtype (bfloat16, float16 or float32).

        Raises:
            CheckpointError: the tensor cannot be read, or holds NaN or infinity.
        """
        return self._read(name)

    def score_weight(self) -> NDArray[np.float32]:
        """Return the vector [hidden] whose product with a pair's state is its score.

        The score is logit(yes) - logit(no), or the logit of a classification head.

        Raises:
            CheckpointError: the checkpoint is for embedding, or the tensor cannot be read.
        """
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
        file, stored = self.files[name].file, self.files[name].name
        try:
            with safe_open(file, "np") as shard:
                values: NDArray[Any] = shard.get_tensor(stored) if row is None else shard.get_slice(stored)[row]
        except SafetensorError as error:
            raise CheckpointError(f"cannot read {stored} from {file}: {brief(error)}; fetch it again") from error
        with np.errstate(invalid="ignore"):  # a signaling NaN of bfloat16
            finite = bool(np.isfinite(values).all())
        if not finite:
            raise CheckpointError(
                f"{stored} in {file} holds NaN or infinity; the checkpoint is damaged, use another one"
            )
        return values

    @property
    def tokenizer_file(self) -> Path:
        """Path of the checkpoint's tokenizer.json."""
        return self.folder / TOKENIZER


def open_checkpoint(name: str, *, revision: str | None = None, task: Task | None = None) -> Checkpoint:
    """Open a local checkpoint folder, or fetch one from the Hugging Face hub.

    Args:
        name: a folder, or a hub id such as `Qwen/Qwen3-Embedding-0.6B`. huggingface_hub fetches it; it keeps its own
            cache and honours `HF_HUB_OFFLINE`.
        revision: a branch, tag or commit of the hub repository.
        task: the task of the checkpoint, if its files leave it open.

    Raises:
        CheckpointError: the checkpoint cannot be found, is incomplete, or belongs to no family that quoit exports.
    """
    root, revision = locate(name, revision)
    modules = read_modules(root)
    folder = modules.transformer
    check_no_adapter(folder)
    if not is_file(folder / "config.json"):
        raise CheckpointError(explain_missing_config(folder))
    config = read_json(folder / "config.json")
    architecture = read_architecture(config, folder)
    tensors, needed = find_tensors(folder), architecture.tensors
    check_needed(needed, tensors, folder)
    check_extra(needed, tensors, folder, architecture.title)
    files = read_files(modules, config, task)
    recognised, max_tokens = recognise_task(files, task), read_max_tokens(files)
    score_tensor = _score_tensor(files, architecture, tensors) if recognised == "rerank" else None
    check_needed(head_shapes(architecture, score_tensor), tensors, folder)
    contract = read_contract(files, recognised, dimension=architecture.dimension, max_tokens=max_tokens)
    if isinstance(contract, RerankContract):
        warn_how_it_reranks(files, contract, task)
    return Checkpoint(
        folder=folder,
        source=Source(id=_source_id(name, root), revision=revision, weights_sha256=_hash_weights(tensors)),
        contract=contract,
        architecture=architecture,
        max_tokens=max_tokens,
        score_tensor=score_tensor,
        files=tensors,
    )


def _source_id(name: str, folder: Path) -> str:
    found = hub_name(name)
    return folder.resolve().name if found is None else found.repository


def _hash_weights(tensors: dict[str, Stored]) -> str:
    """Return the SHA-256 of the files' hashes, in the order of their names."""
    shards = sorted({stored.file for stored in tensors.values()})
    hashes = [hash_file(file) for file in tqdm(shards, desc="hashing", unit=" files", disable=None)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _score_tensor(files: CheckpointFiles, architecture: Architecture, stored: Collection[str]) -> str:
    """Return the name of the tensor that gives a reranker's score.

    A stored head is used, as in transformers, even if config.json says that the head is the token table.
    `Qwen3Config` leaves the head untied by default.
    """
    if files.classifies:
        return SCORE
    untied = LM_HEAD in stored or not files.config.get("tie_word_embeddings", False)
    return LM_HEAD if untied else architecture.token_table


def head_shapes(architecture: Architecture, score_tensor: str | None) -> dict[str, tuple[int, ...]]:
    """Return the head that an export needs besides the decoder, and its shape.

    A classification head has one label. The result is empty if `score_tensor` is None or the token table.
    """
    hidden = architecture.dimension
    heads = {SCORE: (1, hidden), LM_HEAD: (architecture.vocab_size, hidden)}
    return {name: shape for name, shape in heads.items() if name == score_tensor}
