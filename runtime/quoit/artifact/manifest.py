"""Define the records of quoit.json, the manifest of an artifact.

The manifest has the same fields for every family of models. The runtime reads all that it needs to run a graph from
these fields, and does not interpret the family's config.

Rules for later versions: a new field is optional, and its default is left out of the file (`omit_defaults`). So
artifacts of format 6 can still be opened, and only a file that uses the new field needs the newer quoit. The seal is
computed from the whole content of the file (`sealed`), including fields that this version does not know.
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
"""Name of the field that holds the hash of all other fields."""


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
        graphs: the variant's graphs by name.
        data: the files of tensors, which all graphs share.
        parity: the parity measurements of export.
        accepted: True if all measurements reached their floors.
        quantization: choices that prepared int8 or int4 weights; None for other precisions.
        scaling: powers of two that scaled fp16 weights; None for other precisions.
    """

    graphs: dict[GraphName, Graph]
    data: tuple[FileRecord, ...]
    parity: tuple[Parity, ...]
    accepted: bool
    quantization: Quantization | None = None
    scaling: Scaling | None = None

    @property
    def made(self) -> Quantization | Scaling | None:
        """Return how the variant was made, if calibration texts decided that; None otherwise."""
        return self.quantization or self.scaling

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Return all files of the variant, sorted by path."""
        records = (*(graph.file for graph in self.graphs.values()), *self.data)
        return tuple(sorted(records, key=lambda record: record.path))

    def graph(self, name: GraphName) -> Graph | None:
        """Return the variant's graph with this name; None if there is none."""
        return self.graphs.get(name)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The checkpoint of the weights; `weights_sha256` is the hash of the shards' hashes, in name order."""

    id: str
    revision: str | None
    weights_sha256: Digest


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The family of models that the checkpoint belongs to.

    Attributes:
        name: name of the family, such as `qwen3`.
        config: values of the checkpoint's config.json that the graphs were made from. They are shown and compared; the
            runtime does not depend on their meaning.
    """

    name: str
    config: dict[str, str | bool | int | float]


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The costs of a batch, to size batches and to compare them with the machine's limits, in every family.

    A multiplication and its addition are two operations.

    Attributes:
        token_operations: number of operations of the linear layers for each token of the stream.
        answer_operations: number of additional operations for each sequence, of layers that run only on its answering
            token.
        pair_operations: number of operations of attention for each pair of a token and one that it attends to.
        weights: number of weights of the linear layers; a batch reads all of them once.
        products: shapes (in, out) of typical products of linear layers, to time the machine with.
        position_values: maximum number of values of 16 bits in memory at once for one position of a padded batch.
    """

    token_operations: Positive
    answer_operations: Annotated[int, msgspec.Meta(ge=0)]
    pair_operations: Positive
    weights: Positive
    products: Annotated[tuple[tuple[Positive, Positive], ...], msgspec.Meta(min_length=1)]
    position_values: Positive


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of quoit.json.

    Attributes:
        format: number of the format, FORMAT.
        created_by: name and version of the program that wrote the file.
        contract: the contract of the task, with the text and tokens around its texts.
        dimension: width of a state, and so of a vector that is not cut.
        pooling: name of the token whose state is the answer to a text.
        max_tokens: maximum number of tokens of a text, including those that surround it.
        vocab_size: number of tokens that the model knows.
        costs: the costs of a batch.
        family: the family of models, with its config.
        tokenizer: the tokenizer's file.
        source: the checkpoint.
        variants: the model's variant in each precision.
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
        """Return the task that the artifact is made for."""
        return TASKS[type(self.contract)][0]

    def records(self) -> list[FileRecord]:
        """Return the records of all files of the artifact except the manifest itself."""
        return [self.tokenizer, *(record for variant in self.variants.values() for record in variant.files)]


def sealed(document: dict[str, Any]) -> str:
    """Return the seal of a manifest: the SHA-256 of its canonical JSON, without the seal itself.

    The seal shows any change after export, such as a changed prompt. The canonical form is that of Python's `json`,
    with sorted keys and without spaces.

    Args:
        document: the manifest as decoded from JSON.
    """
    content = {name: value for name, value in document.items() if name != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of quoit.json: the manifest and its seal."""
    document = msgspec.json.decode(msgspec.json.encode(manifest))
    return msgspec.json.format(msgspec.json.encode(document | {SEAL: sealed(document)}), indent=2) + b"\n"
