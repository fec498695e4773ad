"""The artifact folder: what `quoit-export` writes and the runtime reads.

    FOLDER/quoit.json                      the manifest: the records of `manifest` as JSON, and its own hash
    FOLDER/tokenizer.json                  the checkpoint's own tokenizer
    FOLDER/<precision>/model.onnx          the graph that CPUs run
    FOLDER/<precision>/model.cuda.onnx     of fp16, bf16 and int4, the graph that CUDA runs, with the same tensors
    FOLDER/<precision>/model.emulated.onnx     of int4, that graph as a CPU can run it, for its parity
    FOLDER/<precision>/model.saturating.onnx   of int8 and int4, that for CPUs whose sums of int8 products saturate
    FOLDER/<precision>/model.onnx.data     the tensors of all these graphs, memory-mapped at load

The manifest names every file; nothing is found by its name. This package checks names, sizes and hashes. It does not
know what is in a graph or how it runs.
"""

from quoit.artifact.contracts import Contract, EmbeddingContract, RerankContract
from quoit.artifact.folder import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    TOKENIZER,
    Artifact,
    digest,
    hash_file,
    is_file,
    open_artifact,
    read_artifact,
    record_file,
    write_manifest,
)
from quoit.artifact.manifest import FORMAT, Costs, Family, FileRecord, Graph, Manifest, Source, Variant
from quoit.artifact.measurements import HELD_OUT, Calibration, Parity, Quantization, Scaling
from quoit.artifact.names import (
    Digest,
    GraphName,
    LayoutName,
    Measure,
    Pooling,
    Positive,
    Precision,
    ProviderName,
    Task,
    TokenId,
)

__all__ = [
    "FORMAT",
    "HELD_OUT",
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "TOKENIZER",
    "Artifact",
    "Calibration",
    "Contract",
    "Costs",
    "Digest",
    "EmbeddingContract",
    "Family",
    "FileRecord",
    "Graph",
    "GraphName",
    "LayoutName",
    "Manifest",
    "Measure",
    "Parity",
    "Pooling",
    "Positive",
    "Precision",
    "ProviderName",
    "Quantization",
    "RerankContract",
    "Scaling",
    "Source",
    "Task",
    "TokenId",
    "Variant",
    "digest",
    "hash_file",
    "is_file",
    "open_artifact",
    "read_artifact",
    "record_file",
    "write_manifest",
]
