"""The records of quoit.json, the manifest of an artifact.

The manifest is the same for every family of models: what the runtime needs to run a graph stands in fields of its own,
and the family's config is carried beside them without being interpreted.

Rules for later versions: a new field is optional, and its default is left out of the file (`omit_defaults`). So
artifacts of format 6 keep opening, and only a file that uses the new field needs the newer quoit. The seal is computed
from the file's own content (`sealed`), whatever fields this version knows.
"""

import hashlib
import json
from typing import Annotated, Any

import msgspec

from quoit.artifact.contracts import TASKS, Contract
from quoit.artifact.measurements import Parity, Quantization, Scaling
from quoit.artifact.names import Digest, GraphName, LayoutName, Pooling, Positive, Precision, Task

FORMAT = 6
SEAL = "sha256"
"""Name of the field that holds the hash of all others."""


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file of the artifact: its path within the folder, size in bytes, and SHA-256."""

    path: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Digest


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A graph of a variant: its file, and the layout of the inputs that it takes."""

    file: FileRecord
    layout: LayoutName


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One precision of the model.

    Attributes:
        graphs: its graphs by name.
        data: the files of tensors, which all its graphs share.
        parity: what export measured of it.
        accepted: whether all that reached its floors.
        quantization: how int8 or int4 weights were made.
        scaling: how fp16 weights were made.
    """

    graphs: dict[GraphName, Graph]
    data: tuple[FileRecord, ...]
    parity: tuple[Parity, ...]
    accepted: bool
    quantization: Quantization | None = None
    scaling: Scaling | None = None

    @property
    def made(self) -> Quantization | Scaling | None:
        """How it was made, where calibration texts decided that."""
        return self.quantization or self.scaling

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """All its files, by path."""
        records = (*(graph.file for graph in self.graphs.values()), *self.data)
        return tuple(sorted(records, key=lambda record: record.path))

    def graph(self, name: GraphName) -> Graph | None:
        """One of the variant's graphs; None where it has none of that name."""
        return self.graphs.get(name)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the weights came from; `weights_sha256` is the hash of the shards' hashes, in name order."""

    id: str
    revision: str | None
    weights_sha256: Digest


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The family of models that the checkpoint is of.

    Attributes:
        name: the family's name, such as `qwen3`.
        config: the numbers of the checkpoint's config.json that the graphs were made from. They are shown and compared;
            nothing in the runtime depends on what they mean.
    """

    name: str
    config: dict[str, str | bool | int | float]


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a batch costs, so that batches can be sized and compared with the machine's limits in every family.

    A multiplication and its addition are two operations.

    Attributes:
        token_operations: operations of the linear layers for each token of the stream.
        answer_operations: those for each sequence besides, of layers that run on its answering token alone.
        pair_operations: operations of attention for each pair of a token and one that it attends to.
        weights: the weights of the linear layers; a batch reads all of them once.
        products: shapes (in, out) of typical products of linear layers, to time the machine with.
        position_values: the most values of 16 bits that live at once for one position of a padded batch.
    """

    token_operations: Positive
    answer_operations: Annotated[int, msgspec.Meta(ge=0)]
    pair_operations: Positive
    weights: Positive
    products: Annotated[tuple[tuple[Positive, Positive], ...], msgspec.Meta(min_length=1)]
    position_values: Positive


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """quoit.json.

    Attributes:
        format: FORMAT.
        created_by: the program that wrote it, with its version.
        contract: the task, and what surrounds its texts.
        dimension: the width of a state, and so of a vector that is not cut.
        pooling: the state of a text that is its answer.
        max_tokens: the most tokens of a text, those that surround it included.
        vocab_size: the number of tokens that the model knows.
        costs: what a batch costs.
        family: the family of models, with its config.
        tokenizer: the tokenizer's file.
        source: the checkpoint.
        variants: the model in each precision.
    """

    format: int
    created_by: str
    contract: Contract
    dimension: Positive
    pooling: Pooling
    max_tokens: Positive
    vocab_size: Positive
    costs: Costs
    family: Family
    tokenizer: FileRecord
    source: Source
    variants: dict[Precision, Variant]

    @property
    def task(self) -> Task:
        """What the artifact is for."""
        return TASKS[type(self.contract)][0]

    def records(self) -> list[FileRecord]:
        """Every file of the artifact but the manifest itself."""
        return [self.tokenizer, *(record for variant in self.variants.values() for record in variant.files)]


def sealed(document: dict[str, Any]) -> str:
    """The seal of a manifest: the SHA-256 of its canonical JSON, without the seal itself.

    A changed prompt can so not pass for the one that was exported. The canonical form is that of Python's `json`, keys
    sorted and without spaces.

    Args:
        document: the manifest as JSON has it.
    """
    content = {name: value for name, value in document.items() if name != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of quoit.json: the manifest and its seal."""
    document = msgspec.json.decode(msgspec.json.encode(manifest))
    return msgspec.json.format(msgspec.json.encode(document | {SEAL: sealed(document)}), indent=2) + b"\n"
