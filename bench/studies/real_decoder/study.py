"""Export a completion of the trained decoder in each precision, and measure every variant through the runtime.

Variants below their floors are kept and measured too, marked as refused. This module does not know how a precision is
made: it calls `publish`, reads the manifest and embeds.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.studies.real_decoder.closeness import States, closeness
from quoit import Embedder
from quoit.artifact import Artifact, Precision, Variant
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import ParityError
from quoit_export.export import Request, publish

REFERENCE: Precision = "fp32"
SECOND_PASSES = "second_pass_cost"
"""Field of an int8 variant's record that says which share of rows of its inputs is quantized in two passes."""
LINEARS_PER_LAYER = 7


def measure(
    checkpoint: Path,
    out: Path,
    precisions: Sequence[Precision],
    texts: Sequence[str],
    threads: int | None,
    snippets: int = 0,
) -> tuple[dict[str, Any], States]:
    """Export a checkpoint and measure its variants on held-out texts.

    Args:
        checkpoint: the checkpoint's folder.
        out: the artifact's folder.
        precisions: the variants besides fp32.
        texts: the held-out texts.
        threads: threads of the runtime; None for one for each core.
        snippets: the number of texts, the first ones, that are single tokens or code. With any, they and the sentences
            are also measured by themselves.

    Returns:
        The record of each variant by its precision, and the states of fp32 [texts, hidden].
    """
    artifact = publish(open_checkpoint(str(checkpoint)), Request(out, (REFERENCE,)))
    reference = states(artifact, REFERENCE, texts, threads)
    found: dict[str, Any] = {REFERENCE: describe(artifact, REFERENCE)}
    for precision in precisions:
        start = time.perf_counter()
        try:
            artifact = publish(open_checkpoint(str(checkpoint)), Request(out, (precision,), keep_rejected=True))
        except ParityError as error:
            found[precision] = {"published": False, "refused": str(error)}
            continue
        seconds = round(time.perf_counter() - start, 1)
        given = states(artifact, precision, texts, threads)
        found[precision] = describe(artifact, precision) | {"export_seconds": seconds}
        found[precision]["held_out"] = closeness(given, reference)
        if snippets:
            found[precision]["sentences"] = closeness(given[snippets:], reference[snippets:])
            found[precision]["snippets"] = closeness(given[:snippets], reference[:snippets])
    return found, reference


def states(artifact: Artifact, precision: Precision, texts: Sequence[str], threads: int | None) -> States:
    """Return the states of a variant [texts, hidden], also of one that the runtime refuses."""
    embedder = Embedder(ungated(artifact), precision=precision, provider="cpu", threads=threads)
    return embedder.encode(texts, normalize=False)


def ungated(artifact: Artifact) -> Artifact:
    """Return the artifact with all of its variants accepted."""
    variants: dict[Precision, Variant] = {
        name: msgspec.structs.replace(variant, accepted=True) for name, variant in artifact.manifest.variants.items()
    }
    return Artifact(artifact.folder, msgspec.structs.replace(artifact.manifest, variants=variants))


def describe(artifact: Artifact, precision: Precision) -> dict[str, Any]:
    """Return what the manifest says of a variant: size, how it was made, and export's own parity."""
    variant = artifact.manifest.variants[precision]
    layers = artifact.manifest.family.config["num_hidden_layers"]
    found: dict[str, Any] = {
        "published": variant.accepted,
        "bytes": sum(record.bytes for record in variant.files),
        "linear_layers": int(layers) * LINEARS_PER_LAYER,
        "made": variant.made.describe() if variant.made else None,
        "parity": [
            {
                "measure": parity.measure,
                "texts": f"{parity.texts}{parity.note}",
                "mean": parity.mean,
                "least": parity.minimum,
                "passes": parity.passes,
            }
            for parity in variant.parity
        ],
    }
    made = variant.quantization
    if made is not None:
        found |= {
            "float32_layers": len(made.float32_layers),
            "int8_layers": len(made.int8_layers),
            SECOND_PASSES: getattr(made, SECOND_PASSES, None),
        }
    return found
