"""The artifact folder: what `quoit-export` writes and the runtime reads.

    FOLDER/quoit.json                      the manifest, the records below as JSON, and its own hash
    FOLDER/tokenizer.json                  the checkpoint's own tokenizer
    FOLDER/<precision>/model.onnx          the graph that CPUs run
    FOLDER/<precision>/model.cuda.onnx     of fp16, bf16 and int4, the graph that CUDA runs, with the same tensors
    FOLDER/<precision>/model.emulated.onnx     of int4, that graph as a CPU can run it, for its parity
    FOLDER/<precision>/model.saturating.onnx   of int8 and int4, that for CPUs whose sums of int8 products saturate
    FOLDER/<precision>/model.onnx.data     their tensors, memory-mapped at load

This module checks names, sizes and hashes. It does not know what is in a graph or how it runs.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeVar

import msgspec

from quoit.errors import ArtifactError, brief, shown

FORMAT = 5
MANIFEST = "quoit.json"
TOKENIZER = "tokenizer.json"
SEAL = "sha256"
HELD_OUT = "held-out"
"""What the texts are called on which nothing was decided at export."""
MAX_MANIFEST_BYTES = 1 << 20

ProviderName = Literal["cpu", "cuda"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
Task = Literal["embedding", "rerank"]
Measure = Literal["cosine", "agreement", "spearman", "top10", "ranking"]
GraphName = Literal["cpu", "cuda", "emulated", "saturating"]
GRAPHS: dict[GraphName, str] = {
    "cpu": "model.onnx",
    "cuda": "model.cuda.onnx",
    "emulated": "model.emulated.onnx",
    "saturating": "model.saturating.onnx",
}
"""What the graph is called that a provider runs, a CPU in CUDA's place, or one whose sums of int8 products saturate."""
NOTES: dict[GraphName, str] = {"emulated": " as CUDA computes", "saturating": " with 7-bit activations"}
"""What is said of graphs that are measured besides a variant's first one."""
TokenId = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of a Qwen3 decoder, named as in transformers' `Qwen3Config`."""

    hidden_size: Positive
    intermediate_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    num_key_value_heads: Positive
    head_dim: Positive
    vocab_size: Positive
    rms_norm_eps: float
    rope_theta: float


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the artifact: its path within the folder, size in bytes, and SHA-256."""

    path: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Digest


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How close a variant's answers are to those of `reference`; 1 is the same.

    `measure` is `cosine` of vectors, over texts; `agreement`, one minus the distance of P(yes), over pairs;
    `spearman`, the rank correlation of scores, over queries; and over texts, of their similarities to all others,
    `top10`, how many of the ten nearest stay among them, and `ranking`, the rank correlation.

    Attributes:
        measure: one of the above.
        reference: what the answers are compared with.
        texts: on which texts: HELD_OUT, or `calibration`.
        samples: how many there are.
        mean: of all samples.
        p1: the first percentile.
        least: the worst sample.
        floor: that `least` must reach; None where the measure is only recorded.
        mean_floor: that `mean` must reach.
        graph: which of the variant's graphs was measured.
    """

    measure: Measure
    reference: str
    texts: str
    samples: int
    mean: float
    p1: float
    least: float
    floor: float | None
    mean_floor: float | None
    graph: GraphName = "cpu"

    @property
    def passes(self) -> bool:
        """Whether mean and least are at or above their floors."""
        floors = ((self.least, self.floor), (self.mean, self.mean_floor))
        return all(floor is None or value >= floor for value, floor in floors)

    @property
    def note(self) -> str:
        """What is to be said of the graph that was measured, where that is not the first one."""
        return NOTES.get(self.graph, "")

    def shortfall(self) -> str:
        """What is below its floor, and by how much, in words."""
        floors = (("least", self.least, self.floor), ("mean", self.mean, self.mean_floor))
        missed = [
            f"{name} {value:.5f}, below {floor}"
            for name, value, floor in floors
            if floor is not None and not value >= floor
        ]
        return " and ".join(missed)


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The texts whose activations decided how weights were prepared.

    Attributes:
        source: `built-in`, or the name of a file.
        sha256: the hash of the texts.
        texts: how many texts or pairs were run.
        tokens: how many tokens they have.
    """

    source: str
    sha256: Digest
    texts: Positive
    tokens: Positive


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an int8 or int4 variant's weights were prepared, and how that was chosen.

    Attributes:
        method: the folds that were made, as in `errors`.
        alpha: the exponent of smoothing; None where nothing was smoothed.
        seed: of rotations; None where nothing was rotated.
        floats: linear layers that were left in float32.
        eights: of int4, linear layers that are stored as in int8.
        steps: by the first of the linear layers that read it, the step in which an input is rounded in all rows; other
            inputs are rounded in 127ths of each row's largest magnitude.
        int8_table: whether the token table is int8, each row with its scale, and not float16.
        calibration: the texts that it was chosen on.
        errors: of every method that was tried, the predicted error: the squared error relative to the output, as a mean
            over linear layers and tokens, and what a float16 token table adds.
    """

    method: str
    alpha: float | None
    seed: int | None
    floats: tuple[str, ...]
    eights: tuple[str, ...]
    steps: dict[str, float]
    int8_table: bool
    calibration: Calibration
    errors: dict[str, float]

    def describe(self) -> str:
        """What was chosen and why, in a line."""
        others = [error for name, error in self.errors.items() if name != self.method]
        kept = f", {len(self.floats)} linear layers in float32" if self.floats else ""
        kept += f", {len(self.eights)} in int8" if self.eights else ""
        against = f", {_share(min(others))} to {_share(max(others))} for {len(others)} other methods" if others else ""
        source = f"on {self.calibration.texts} {self.calibration.source} texts"
        return f"{self.method}{kept}: predicted error {_share(self.errors[self.method])}{against}, {source}"


def _share(error: float) -> str:
    """A squared error relative to the output; where it is larger than that, by how much says nothing."""
    return f"{error:.2e}" if error <= 1 else ">1"


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The powers of two that keep an fp16 variant's values within float16, exactly.

    Attributes:
        stream: the residual stream is 2^-stream of the checkpoint's.
        products: layer by layer, so is SwiGLU's product.
        stream_peak: the largest magnitude of the stream before that, on the calibration texts.
        product_peak: that of the products.
        calibration: those texts.
    """

    stream: Annotated[int, msgspec.Meta(ge=0)]
    products: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    stream_peak: float
    product_peak: float
    calibration: Calibration

    def describe(self) -> str:
        """What was chosen and why, in a line."""
        folded = f"stream times 2^-{self.stream}, products times 2^-{max(self.products)} at most"
        peaks = f"magnitudes up to {self.stream_peak:.3g} and {self.product_peak:.3g}"
        chosen = folded if self.stream or any(self.products) else "nothing scaled"
        return f"{chosen}: {peaks} on {self.calibration.texts} {self.calibration.source} texts"


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One precision of the model: its files, the parity that was measured at export, and how int8 or fp16 was made."""

    files: tuple[FileRecord, ...]
    parity: tuple[Parity, ...]
    accepted: bool
    quantization: Quantization | None = None
    scaling: Scaling | None = None

    @property
    def made(self) -> Quantization | Scaling | None:
        """How it was made, where calibration texts decided that."""
        return self.quantization or self.scaling

    def graph(self, name: GraphName) -> FileRecord | None:
        """One of the variant's graphs; None where it has none of that name."""
        return next((file for file in self.files if PurePosixPath(file.path).name == GRAPHS[name]), None)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights came from; `weights_sha256` is the hash of the shards' hashes, in name order."""

    id: str
    revision: str | None
    weights_sha256: Digest


class EmbeddingContract(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="task",
    tag="embedding",
):
    """What surrounds a text, and what its vector may be cut to.

    Attributes:
        prompts: by name, as in sentence-transformers; `query` and `document` are known to quoit. Without `query`, the
            checkpoint has no file of prompts, and a query has the official one.
        end_token_id: appended to every text; its state is the embedding.
        min_dim: the smallest dimension of the Matryoshka range.
        default_prompt_name: the prompt of texts that are neither queries nor documents; None where they have none. A
            default is left out of the file, so that the seals of artifacts from before this field still hold.
    """

    prompts: dict[str, str]
    end_token_id: TokenId
    min_dim: Positive
    default_prompt_name: str | None = None


class RerankContract(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="task", tag="rerank"):
    """What surrounds a query and a document; special tokens count as such in `prefix` and `suffix` alone.

    Attributes:
        prefix: before the instruction, the query and the document.
        suffix: behind them; the state of its last token gives the score.
        instruction: where the caller gives none.
        yes_token_id, no_token_id: whose logits the score is the difference of; None where the checkpoint had
            its score as one vector.
    """

    prefix: str
    suffix: str
    instruction: str
    yes_token_id: TokenId | None
    no_token_id: TokenId | None


Contract = EmbeddingContract | RerankContract
SomeContract = TypeVar("SomeContract", EmbeddingContract, RerankContract)
TASKS: dict[type[EmbeddingContract] | type[RerankContract], tuple[Task, str]] = {
    EmbeddingContract: ("embedding", "Embedder"),
    RerankContract: ("rerank", "Reranker"),
}
"""The task of each contract, and the class that serves it."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """quoit.json."""

    format: int
    created_by: str
    contract: Contract
    architecture: Architecture
    max_tokens: Positive
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


@dataclass(frozen=True)
class Artifact:
    """A manifest and the folder it describes."""

    folder: Path
    manifest: Manifest

    def contract(self, kind: type[SomeContract]) -> SomeContract:
        """The artifact's contract, when it is of a kind.

        Raises:
            ArtifactError: the artifact is for another task.
        """
        found = self.manifest.contract
        if not isinstance(found, kind):
            task, server = TASKS[type(found)]
            raise ArtifactError(
                f"{self.folder} is made for {task}, and {TASKS[kind][0]} was asked for; open it with quoit.{server}, "
                "or name another artifact"
            )
        return found

    def variant(self, precision: Precision) -> Variant:
        """The variant of a precision.

        Raises:
            ArtifactError: the artifact lacks it, or export rejected it.
        """
        variant = self.manifest.variants.get(precision)
        if variant is None:
            have = ", ".join(self.manifest.variants)
            raise ArtifactError(
                f"{self.folder} has no {precision} variant (it has {have}); choose one of those, or add it "
                f"with `quoit-export CHECKPOINT {self.folder} --precision {precision}`"
            )
        if not variant.accepted:
            failed = "; ".join(_describe(p) for p in variant.parity if not p.passes)
            others = ", ".join(self.accepted())
            remedy = f"use another precision of {others}" if others else "make a new export"
            raise ArtifactError(f"the {precision} variant of {self.folder} was rejected at export ({failed}); {remedy}")
        return variant

    def accepted(self) -> list[Precision]:
        """The precisions that passed their parity gate, in the manifest's order."""
        return [name for name, variant in self.manifest.variants.items() if variant.accepted]

    def path(self, record: FileRecord) -> Path:
        """Where a file of the manifest lies, after a check that it is there in full length.

        Raises:
            ArtifactError: the path leaves the folder, or the file is missing or of another size.
        """
        inside = PurePosixPath(record.path)
        if inside.is_absolute() or ".." in inside.parts or "\\" in record.path or not inside.parts:
            raise ArtifactError(
                f"{self.folder / MANIFEST} names a file outside its folder, {shown(record.path)}; do not use this "
                "artifact"
            )
        path = self.folder / inside
        if not is_file(path):
            raise ArtifactError(f"{path} is missing; export the artifact again")
        size = path.stat().st_size
        if size != record.bytes:
            raise ArtifactError(
                f"{path} has {size:,} bytes, {record.bytes:,} expected; copy or export the artifact again"
            )
        return path

    def verify(self, record: FileRecord) -> Path:
        """Like `path`, and the SHA-256 of the file must be the recorded one.

        Raises:
            ArtifactError: see `path`; or the hash differs.
        """
        path = self.path(record)
        found = hash_file(path)
        if found != record.sha256:
            raise ArtifactError(
                f"{path} is damaged: its SHA-256 is {found[:12]}…, {record.sha256[:12]}… expected; copy or "
                "export the artifact again"
            )
        return path


def _describe(parity: Parity) -> str:
    return f"{parity.measure} to {parity.reference} on {parity.texts} texts{parity.note} {parity.shortfall()}"


def is_file(path: Path) -> bool:
    """Whether a path leads to a file; one that no file can have, too long or with a null, does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_file(folder: Path, path: Path) -> FileRecord:
    """The manifest's record of a file in `folder`."""
    return FileRecord(path.relative_to(folder).as_posix(), path.stat().st_size, hash_file(path))


def read_artifact(folder: str | Path) -> Artifact:
    """Reads and checks the manifest of an artifact folder; the large files are checked when used.

    Raises:
        ArtifactError: no folder, no manifest, or a manifest that is damaged or of another format.
    """
    folder = Path(folder)
    file = folder / MANIFEST
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder; make it with `quoit-export CHECKPOINT {folder}`")
    if not file.is_file():
        raise ArtifactError(
            f"{folder} has no {MANIFEST}, so it is no artifact; make one with `quoit-export {folder} OUT` if "
            "it is a checkpoint"
        )
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactError(f"{file} is larger than {MAX_MANIFEST_BYTES:,} bytes; export the artifact again")
    try:
        found = msgspec.json.decode(file.read_bytes())
        version = found.get("format") if isinstance(found, dict) else None
        if version != FORMAT:
            raise ArtifactError(
                f"{file} has format {shown(version)}, this quoit reads format {FORMAT}; export the artifact again, "
                "or install the quoit that wrote it"
            )
        seal = found.pop(SEAL, None)
        manifest = msgspec.convert(found, Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{file} is damaged: {brief(error)}; export the artifact again") from error
    if seal != _seal(manifest):
        raise ArtifactError(
            f"{file} is damaged: its {SEAL} is {seal!r:.14}, {_seal(manifest)[:12]}… expected of what it says; copy or "
            "export the artifact again"
        )
    return Artifact(folder, manifest)


def open_artifact(artifact: str | Path | Artifact) -> Artifact:
    """An artifact from its folder, or as it is."""
    return artifact if isinstance(artifact, Artifact) else read_artifact(artifact)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes quoit.json into a folder, with a hash of what it says beside that."""
    sealed = msgspec.to_builtins(manifest) | {SEAL: _seal(manifest)}
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n")


def _seal(manifest: Manifest) -> str:
    """The SHA-256 of a manifest, so that a changed prompt cannot pass for the one that was exported."""
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
