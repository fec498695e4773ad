"""Define the artifact folder that `quoit-export` writes and the runtime reads.

    FOLDER/quoit.json                      the manifest: the records of `manifest` as JSON, and its own hash
    FOLDER/tokenizer.json                  the checkpoint's own tokenizer
    FOLDER/<precision>/model.onnx          the graph that CPUs run
    FOLDER/<precision>/model.cuda.onnx     the graph that CUDA runs, with the same tensors (fp16, bf16, int4)
    FOLDER/<precision>/model.emulated.onnx     the CUDA graph as a CPU can run it, to measure its parity (int4)
    FOLDER/<precision>/model.saturating.onnx   the graph for CPUs whose sums of int8 products saturate (int8, int4)
    FOLDER/<precision>/model.onnx.data     the tensors of all these graphs, memory-mapped at load

The manifest names every file; no file is found by its name alone. This package checks names, sizes and hashes. It does
not know what is in a graph or how it runs.
"""

from quoit.artifact.contracts import Contract, EmbeddingContract, RerankContract
from quoit.artifact.folder import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    TOKENIZER,
    Artifact,
    hash_file,
    is_file,
    open_artifact,
    read_artifact,
    record_file,
    write_manifest,
)
from quoit.artifact.manifest import FORMAT, Costs, Family, FileRecord, Graph, Manifest, Source, Variant
from quoit.artifact.measurements import HELD_OUT, SNIPPETS, Calibration, Parity, Quantization, Scaling
from quoit.artifact.names import (
    NATIVE_GRAPHS,
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
    "NATIVE_GRAPHS",
    "SNIPPETS",
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
    "hash_file",
    "is_file",
    "open_artifact",
    "read_artifact",
    "record_file",
    "write_manifest",
]
