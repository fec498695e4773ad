"""Errors of names of the hub: looking up, fetching, exporting, pushing and the cache."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from hub import COMMIT, MODEL, TOKEN, Hub, files_of, point_at, status
from messages.harness import Case, Command, Trigger, World
from quoit import InputError
from quoit.artifact import MANIFEST, read_artifact
from quoit.cli.main import make_parser
from quoit.errors import ArtifactError
from quoit.hub.names import HubName
from quoit.hub.opening import open_manifest, open_model
from quoit_export import cli as export_cli
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.errors import CheckpointError, ExportError
from quoit_export.push import push
from support import with_variants

DATA = "int8/model.onnx.data"
Prepare = Callable[[Hub, World], object]


def alone(world: World) -> None:
    """A folder and caches of the case's own."""
    world.patch.chdir(world.folder)
    world.patch.setenv("QUOIT_CACHE", str(world.folder / "cache"))
    world.patch.delenv("HF_TOKEN", raising=False)
    world.patch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(world.folder / "no-token"))


def opening(prepare: Prepare, name: str = MODEL) -> Trigger:
    """Opens a name after something was done to a hub that has an artifact."""

    def trigger(world: World) -> object:
        alone(world)
        hub = Hub()
        hub.add(files_of(world.sources.artifact))
        with hub.serving() as endpoint:
            point_at(endpoint, world.patch.setattr, world.folder / "hf")
            world.patch.setenv("HF_ENDPOINT", endpoint)
            world.patch.setenv("HF_HUB_CACHE", str(world.folder / "hf"))
            prepare(hub, world)
            return open_model(name, "int8", "cpu")

    return trigger


def without_the_package(world: World) -> object:
    alone(world)
    world.patch.setitem(sys.modules, "huggingface_hub", cast("object", None))  # an import block: the tests have it
    return open_model("org/name")


def change(path: str, content: bytes) -> Prepare:
    def prepare(hub: Hub, world: World) -> None:
        hub.add(files_of(world.sources.artifact) | {path: content})

    return prepare


def damaged(hub: Hub, world: World) -> None:
    files = files_of(world.sources.artifact)
    hub.add(files | {DATA: bytes(len(files[DATA]))})


def not_fetched(hub: Hub, _: World) -> None:
    hub.faults += [status(404, DATA)] * 2


def without_a_commit(hub: Hub, _: World) -> None:
    def answer(request: object) -> bool:
        request.send(200, {"id": MODEL, "siblings": []})  # type: ignore[attr-defined]
        return True

    hub.faults.append(answer)


def checkpoint(hub: Hub, world: World) -> None:
    hub.add(files_of(world.sources.checkpoint))


def without_packages(hub: Hub, world: World) -> None:
    checkpoint(hub, world)
    world.patch.setattr("quoit.hub.exports.PACKAGES", {"absent_module": "absent-package"})


def nowhere_to_keep(hub: Hub, world: World) -> None:
    checkpoint(hub, world)
    world.write("file", "")
    world.patch.setenv("QUOIT_CACHE", str(world.folder / "file" / "cache"))


def of_no_family(hub: Hub, world: World) -> None:
    files = files_of(world.sources.checkpoint)
    hub.add(files | {"config.json": files["config.json"].replace(b"qwen3", b"gpt_x")})


def looking_at_a_checkpoint(world: World) -> object:
    alone(world)
    hub = Hub()
    hub.add(files_of(world.sources.checkpoint))
    with hub.serving() as endpoint:
        point_at(endpoint, world.patch.setattr, world.folder / "hf")
        return open_manifest(MODEL)


def not_in_the_cache(world: World) -> list[str]:
    alone(world)
    return ["cache", "prune", "org/name"]


def cache_without_the_package(world: World) -> object:
    alone(world)
    world.patch.setitem(sys.modules, "huggingface_hub", cast("object", None))
    options = make_parser().parse_args(["cache", "list"])
    return options.run(options)


def two_revisions(world: World) -> object:
    alone(world)
    return open_checkpoint(f"org/name@{COMMIT}", revision="main")


def pushing(name: str, *, token: bool = True) -> Trigger:
    def trigger(world: World) -> object:
        alone(world)
        if token:
            world.patch.setenv("HF_TOKEN", TOKEN)
        arguments = [str(world.sources.checkpoint), str(world.folder / "out"), "--precision", "fp32", "--push", name]
        return export_cli.run(export_cli.make_parser().parse_args(arguments))

    return trigger


def pushing_what_was_rejected(world: World) -> object:
    artifact = read_artifact(world.sources.half)
    rejected = replace(artifact.variant("fp16"), accepted=False)
    return push(with_variants(artifact, fp16=rejected), HubName("org/name"), ())


def pushing_where_nothing_is_allowed(world: World) -> object:
    hub = Hub()
    hub.faults.append(status(403, "/api/repos/create"))
    with hub.serving() as endpoint:
        point_at(endpoint, world.patch.setattr, Path(world.folder))
        return pushing("org/name")(world)


CASES = [
    Case(
        "no hub package", without_the_package, ArtifactError, "org/name is no folder here", "pip install 'quoit[hub]'"
    ),
    Case(
        "a name that the hub does not know",
        opening(lambda *_: None, "other/name"),
        ArtifactError,
        "other/name is no folder here",
        "check the spelling",
    ),
    Case("a hub without commits", opening(without_a_commit), ArtifactError, MODEL, "check the setting HF_ENDPOINT"),
    Case("a file that does not come", opening(not_fetched), ArtifactError, DATA, "the same command goes on"),
    Case("a file that is damaged", opening(damaged), ArtifactError, f"{DATA} of {MODEL}", "try again"),
    Case(
        "a manifest that is too large",
        opening(change(MANIFEST, bytes((1 << 20) + 1))),
        ArtifactError,
        "1,048,577 bytes",
        "tell its owner",
    ),
    Case("no packages to export", opening(without_packages), ArtifactError, "absent-package", "quoit[export]"),
    Case("no place for an export", opening(nowhere_to_keep), ArtifactError, MODEL, "set QUOIT_CACHE"),
    Case("a checkpoint of no family", opening(of_no_family), ArtifactError, MODEL, "export it by hand"),
    Case("a checkpoint to look at", looking_at_a_checkpoint, ArtifactError, MODEL, "`quoit-export some/model OUT`"),
    Case("nothing to prune", Command("quoit", not_in_the_cache), InputError, "org/name", "it has no model"),
    Case(
        "all and one",
        Command("quoit", lambda _: ["cache", "prune", "--all", "org/name"]),
        InputError,
        "--all and org/name",
        "give one of them",
    ),
    Case("no hub package for the cache", cache_without_the_package, InputError, "huggingface_hub", "quoit[hub]"),
    Case("two revisions", two_revisions, CheckpointError, "--revision main", "give one of them"),
    Case("a push to no repository", pushing("name"), ExportError, "--push name", "name one as ORG/NAME"),
    Case("a push to a revision", pushing("org/name@v1"), ExportError, "org/name@v1", "name the repository alone"),
    Case("a push by nobody", pushing("org/name", token=False), ExportError, "org/name", "hf auth login"),
    Case("a push of what was rejected", pushing_what_was_rejected, ExportError, "fp16", "without --precision fp16"),
    Case(
        "a push that is refused",
        pushing_where_nothing_is_allowed,
        ExportError,
        "org/name",
        "the same command pushes it again",
    ),
]
