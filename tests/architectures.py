"""What tests ask of an artifact: its config and architecture, and its variants with other records of their files."""

from collections.abc import Callable

import msgspec

from quoit.artifact import Artifact, FileRecord, Variant
from quoit_export.families.qwen3 import architecture_of as qwen3_architecture
from quoit_export.families.qwen3.config import Config
from quoit_export.graph.architecture import Architecture


def config_of(artifact: Artifact) -> Config:
    """The numbers of its config.json."""
    assert artifact.manifest.family.name == "qwen3"
    return msgspec.convert(artifact.manifest.family.config, Config)


def architecture_of(artifact: Artifact) -> Architecture:
    """What export knows of its model."""
    return qwen3_architecture(config_of(artifact))


def with_records(variant: Variant, change: Callable[[FileRecord], FileRecord]) -> Variant:
    """A variant with other records of its files."""
    graphs = {name: msgspec.structs.replace(graph, file=change(graph.file)) for name, graph in variant.graphs.items()}
    return msgspec.structs.replace(variant, graphs=graphs, data=tuple(map(change, variant.data)))
