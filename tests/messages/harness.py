"""What a case is: a trigger that makes an error happen, and what its message must say."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import quoit
import quoit.cli.main
import quoit_export
import quoit_export.cli
from quoit import Embedder, Reranker
from quoit.artifact import Precision
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.export import Request, publish

LONG = "x" * 5000
SHARD = "model.safetensors"


@dataclass(frozen=True)
class Sources:
    """Checkpoints and artifacts whose tokens are bytes, some 0.5 MB each. Read-only: copy them to change them."""

    checkpoint: Path
    artifact: Path
    half: Path
    rerank_checkpoint: Path
    reranker: Path
    overflowing_checkpoint: Path
    overflowing: Path
    overflowing_reranker: Path


@dataclass(frozen=True)
class World:
    """A case's own empty folder, what it may copy there, and what it may change until it ends."""

    folder: Path
    patch: pytest.MonkeyPatch
    sources: Sources

    def copy(self, source: Path) -> Path:
        """A copy to change; its name is that of the source."""
        return shutil.copytree(source, self.folder / source.name)

    def write(self, name: str, content: str | bytes) -> str:
        """A file's path."""
        file = self.folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    def embedder(self) -> Embedder:
        return Embedder(self.sources.artifact, precision="fp32", provider="cpu")

    def reranker(self) -> Reranker:
        return Reranker(self.sources.reranker, precision="fp32", provider="cpu")

    def export(self, *precisions: Precision, checkpoint: Path | None = None, **options: Any) -> object:
        folder = checkpoint or self.sources.checkpoint
        return publish(open_checkpoint(str(folder)), Request(self.folder / "out", precisions, **options))


Trigger = Callable[[World], object]


@dataclass(frozen=True)
class Command:
    """A command line as a trigger: run as its program does, but for the handling of errors."""

    program: str
    arguments: Callable[[World], list[str]]

    def __call__(self, world: World) -> object:
        if self.program == "quoit":
            options = quoit.cli.main.make_parser().parse_args(self.arguments(world))
            return options.run(options)
        return quoit_export.cli.run(quoit_export.cli.make_parser().parse_args(self.arguments(world)))

    def main(self, world: World) -> int:
        """The whole program."""
        main = quoit.cli.main.main if self.program == "quoit" else quoit_export.cli.main
        return main(self.arguments(world))


@dataclass(frozen=True)
class Case:
    """An error that can happen.

    Attributes:
        name: what is wrong.
        trigger: makes it happen.
        error: the class.
        value: the offending value, as the message has it.
        step: what to do, as the message has it.
    """

    name: str
    trigger: Trigger
    error: type[Exception]
    value: str
    step: str
