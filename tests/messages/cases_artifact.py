"""Errors of artifact folders: the manifest, the files and the variants."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from messages.harness import LONG, Case, Command, Trigger, World
from messages.triggers import Document, load, with_manifest
from quoit import ArtifactError, Embedder, InputError, Reranker
from quoit.artifact import FORMAT, MANIFEST, MAX_MANIFEST_BYTES, TOKENIZER
from quoit.artifact.manifest import SEAL, sealed
from support import edit_json


def with_fields(**changes: Any) -> Trigger:
    """Loading a copy of the artifact whose manifest has other fields, and the seal that it had."""
    return with_file(MANIFEST, lambda file: edit_json(file, **changes))


def with_file(name: str, change: Callable[[Path], object]) -> Trigger:
    """Loading a copy of the artifact with a changed file."""

    def trigger(world: World) -> object:
        folder = world.copy(world.sources.artifact)
        change(folder / name)
        return Embedder(folder, precision="fp32", provider="cpu")

    return trigger


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def reject(document: Document, *names: str) -> None:
    """Marks variants as export marks those below their floor."""
    parity = {"measure": "cosine", "reference": "fp32", "texts": "held-out", "samples": 9}
    parity |= {"mean": 0.75, "p1": 0.6, "minimum": 0.5, "floor": 0.985, "mean_floor": 0.995}
    for name in names:
        document["variants"][name].update(accepted=False, parity=[parity])


def add_a_field_of_the_future(file: Path) -> None:
    """A field that this quoit does not know, with the seal that a newer one computes."""
    document = json.loads(file.read_text()) | {"rows_in_two_passes": True}
    file.write_text(json.dumps(document | {SEAL: sealed(document)}))


CASES = [
    Case(
        "a reranker opened as an embedder",
        lambda world: Embedder(world.sources.reranker),
        ArtifactError,
        "/reranker is made for rerank",
        "open it with quoit.Reranker",
    ),
    Case(
        "an embedder opened as a reranker",
        lambda world: Reranker(world.sources.artifact),
        ArtifactError,
        "/artifact is made for embedding",
        "open it with quoit.Embedder",
    ),
    Case("a precision it lacks", load(precision="fp16"), ArtifactError, "no fp16 variant", "--precision fp16"),
    Case(
        "a rejected precision",
        with_manifest(lambda found: reject(found, "int8"), "int8"),
        ArtifactError,
        "cosine to fp32 on held-out texts least 0.50000, below 0.985 and mean 0.75000, below 0.995",
        "use another precision of fp32",
    ),
    Case(
        "a rejected precision, and no other",
        with_manifest(lambda found: reject(found, "int8", "fp32"), "int8"),
        ArtifactError,
        "the int8 variant of ",
        "; make a new export",
    ),
    Case(
        "no precision that was accepted",
        with_manifest(lambda found: reject(found, "int8", "fp32"), None),
        ArtifactError,
        "/artifact has no variant that passed",
        "export it again",
    ),
    Case(
        "a file outside the folder",
        with_manifest(lambda found: found["tokenizer"].update(path="../tokenizer.json")),
        ArtifactError,
        "'../tokenizer.json'",
        "do not use this artifact",
    ),
    Case(
        "a file far outside the folder",
        with_manifest(lambda found: found["tokenizer"].update(path=f"../{LONG}")),
        ArtifactError,
        "'../xxx",
        "do not use this artifact",
    ),
    Case(
        "a missing file",
        with_file("fp32/model.onnx.data", Path.unlink),
        ArtifactError,
        "/fp32/model.onnx.data is missing",
        "export the artifact again",
    ),
    Case(
        "a file of another size",
        with_file(TOKENIZER, lambda file: file.write_bytes(b"{}")),
        ArtifactError,
        "/tokenizer.json has 2 bytes",
        "copy or export the artifact again",
    ),
    Case(
        "a damaged file",
        with_file("fp32/model.onnx.data", flip_a_bit),
        ArtifactError,
        "/fp32/model.onnx.data is damaged",
        "copy or export the artifact again",
    ),
    Case(
        "a query of other bytes",
        Command("quoit", lambda world: ["similarity", "caf\udce9", world.write("a.txt", "text"), "-m", "absent"]),
        InputError,
        "the query 'caf\\udce9' has bytes that are not utf-8",
        "set LC_ALL to a UTF-8 locale",
    ),
    Case(
        "no folder",
        Command("quoit", lambda world: ["info", str(world.folder / "absent")]),
        ArtifactError,
        "/absent is not a folder",
        "make it with `quoit-export CHECKPOINT /",
    ),
    Case(
        "a folder that is no artifact",
        Command("quoit", lambda world: ["doctor", str(world.sources.checkpoint)]),
        ArtifactError,
        "/checkpoint has no quoit.json",
        "make one with `quoit-export /",
    ),
    Case(
        "a manifest too large",
        with_file(MANIFEST, lambda file: file.write_text(" " * (MAX_MANIFEST_BYTES + 1))),
        ArtifactError,
        "/quoit.json is larger than 1,048,576 bytes",
        "export the artifact again",
    ),
    Case(
        "an older format",
        with_fields(format=1),
        ArtifactError,
        "format 1, ",
        "export the artifact again with `quoit-export CHECKPOINT /",
    ),
    Case(
        "a newer format",
        with_fields(format=FORMAT + 1),
        ArtifactError,
        f"format {FORMAT + 1}, ",
        "upgrade with `pip install --upgrade quoit`",
    ),
    Case(
        "a field of a newer quoit",
        with_file(MANIFEST, add_a_field_of_the_future),
        ArtifactError,
        "says what this quoit does not know: Object contains unknown field `rows_in_two_passes`",
        "upgrade with `pip install --upgrade quoit`",
    ),
    Case(
        "a format that is a long text",
        with_fields(format=LONG),
        ArtifactError,
        "format 'xxx",
        "export the artifact again",
    ),
    Case(
        "half a manifest",
        with_file(MANIFEST, lambda file: file.write_bytes(file.read_bytes()[:100])),
        ArtifactError,
        "/quoit.json is damaged",
        "export the artifact again",
    ),
    Case(
        "a manifest that was edited",
        with_fields(max_tokens=100),
        ArtifactError,
        "/quoit.json is damaged: its sha256 is '",
        "copy or export the artifact again",
    ),
    Case(
        "an unknown field in several lines",
        with_fields(**{"first\nsecond": 1}),
        ArtifactError,
        "/quoit.json is damaged",
        "export the artifact again",
    ),
    Case(
        "an unknown field with a long name",
        with_fields(**{LONG: 1}),
        ArtifactError,
        "/quoit.json is damaged",
        "export the artifact again",
    ),
]
