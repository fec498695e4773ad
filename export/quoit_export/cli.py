"""Parse the command line of `quoit-export`, run the export and print its result."""

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

from quoit.artifact import NATIVE_GRAPHS, Artifact, Measure, Parity, Precision, Task
from quoit.cli.process import guarded, show, version_of
from quoit.hub.names import HubName, read_hub_name
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import ExportError
from quoit_export.export import OWN_FILES, Request, publish
from quoit_export.precisions.table import DEFAULTS, PRECISIONS
from quoit_export.push import check_push, push
from quoit_export.quantize.calibration import built_in_texts, read_calibration_texts

SAMPLES: dict[Measure, str] = {
    "cosine": "texts",
    "agreement": "pairs",
    "spearman": "queries",
    "centred": "texts",
    "top10": "texts",
    "ranking": "texts",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return guarded(
        "quoit-export",
        lambda: run(make_parser().parse_args(arguments)),
        "interrupted; the same command goes on where it stopped",
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line's arguments."""
    calibrated = [name for name, spec in PRECISIONS.items() if spec.calibrated]
    parser = argparse.ArgumentParser(
        prog="quoit-export", description="Export a Qwen3-Embedding or Qwen3-Reranker checkpoint to an ONNX artifact."
    )
    parser.add_argument("--version", action="version", version=version_of("quoit-export"))
    parser.add_argument(
        "checkpoint",
        help="a checkpoint folder, or a hub id such as Qwen/Qwen3-Embedding-0.6B or ORG/NAME@REVISION",
    )
    parser.add_argument("out", type=Path, help="the artifact folder to write")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=get_args(Precision),
        default=list(DEFAULTS),
        help=f"variants to write (default: {' '.join(DEFAULTS)})",
    )
    parser.add_argument(
        "--task", choices=get_args(Task), help="what the checkpoint is for, where its files leave that open"
    )
    parser.add_argument("--revision", help="a branch, tag or commit of the hub repository")
    parser.add_argument("--verify", action="store_true", help="compare fp32 with transformers too")
    parser.add_argument(
        "--keep-rejected", action="store_true", help="keep variants below their parity floor; the runtime refuses them"
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        help=f"texts to make {' and '.join(calibrated)} with: a file that `quoit embed` reads, or a folder of such",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the artifact that OUT holds")
    parser.add_argument(
        "--push", metavar="ORG/NAME", help="upload the artifact to the Hugging Face hub, with a model card"
    )
    parser.add_argument("--private", action="store_true", help="make the repository of --push private, if it is new")
    return parser


def run(options: argparse.Namespace) -> int:
    """Export the checkpoint, print what was written and return the exit code."""
    start = time.perf_counter()
    request = Request(
        out=options.out,
        precisions=tuple(dict.fromkeys(options.precision)),
        verify=options.verify,
        keep_rejected=options.keep_rejected,
        overwrite=options.overwrite,
        calibration=built_in_texts() if options.calibrate is None else read_calibration_texts(options.calibrate),
    )
    request.check()
    repository = None if options.push is None else repository_of(options.push)
    checkpoint = open_checkpoint(options.checkpoint, revision=options.revision, task=options.task)
    artifact = publish(checkpoint, request)
    describe(artifact, time.perf_counter() - start)
    if repository is not None:
        show(f"pushed to {push(artifact, repository, OWN_FILES, private=options.private)}")
    return 0


def repository_of(name: str) -> HubName:
    """Return the repository that --push names, after a check that it can be written to.

    Raises:
        ExportError: it is no name of a repository, or nobody is logged in.
    """
    repository = read_hub_name(name)
    if repository is None:
        raise ExportError(f"--push {name} is no repository of the hub; name one as ORG/NAME")
    check_push(repository)
    return repository


def describe(artifact: Artifact, seconds: float) -> None:
    """Print the variants of an artifact with their sizes and parity."""
    manifest = artifact.manifest
    show(f"{artifact.folder}: {manifest.source.id}, {manifest.task}, {manifest.dimension} dimensions, {seconds:.1f} s")
    for name, variant in manifest.variants.items():
        size = sum(record.bytes for record in variant.files) / 1e6
        show(f"  {name:5} {size:9,.1f} MB{'' if variant.accepted else '  REJECTED'}")
        for parity in variant.parity:
            # What native kernels reach hardly differs; `quoit info` has it.
            if parity.recorded or (parity.graph in NATIVE_GRAPHS and parity.passes):
                continue
            show(
                f"        {parity.measure} to {parity.reference}: mean {parity.mean:.6f}, least {parity.minimum:.6f} "
                f"of {parity.samples} {parity.texts} {SAMPLES[parity.measure]}{parity.note} ({floors_of(parity)})"
            )
        if variant.made is not None:
            show(f"        {variant.made.describe()}")


def floors_of(parity: Parity) -> str:
    """Return the floors of a measure, in words."""
    floors = (("floor", parity.floor), ("floor of the mean", parity.mean_floor))
    return ", ".join(f"{name} {floor}" for name, floor in floors if floor is not None)


if __name__ == "__main__":
    sys.exit(main())
