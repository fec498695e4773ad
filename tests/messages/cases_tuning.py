"""Errors of tuning files, and of `quoit bench` that makes them."""

from collections.abc import Callable

import msgspec

from messages.harness import LONG, Case, Command, Trigger, World
from messages.triggers import Document, load
from quoit import Embedder, InputError
from quoit.artifact import read_artifact
from quoit.engine.profile import TUNING_FORMAT, Place, Setting, Tuning
from quoit.ort.providers import choose


def bench_without_a_cache(world: World) -> list[str]:
    world.patch.setenv("XDG_CACHE_HOME", world.write("cache", ""))
    return ["bench", str(world.sources.artifact)]


def tuned_for(change: Callable[[Document], object]) -> Trigger:
    """Loading the sound artifact with a tuning file that is this machine's but for a change."""

    def trigger(world: World) -> object:
        artifact = read_artifact(world.sources.artifact)
        setting = Setting(threads=1, workers=1, batch_tokens=64)
        place = Place.here(artifact, choose(artifact, "cpu", "fp32"))
        document: Document = msgspec.to_builtins(Tuning(TUNING_FORMAT, place, setting, setting))
        change(document)
        file = world.write("tuning.json", msgspec.json.encode(document))
        return Embedder(artifact, precision="fp32", provider="cpu", tuning=file)

    return trigger


def embed_untuned(world: World) -> list[str]:
    world.patch.setenv("XDG_CACHE_HOME", str(world.folder))
    arguments = [
        "--tuned",
        "--precision",
        "fp32",
        "-m",
        str(world.sources.artifact),
        "-o",
        str(world.folder / "out.npy"),
    ]
    return ["embed", world.write("texts.txt", "a\n"), *arguments]


def bench_arguments(*more: str, texts: int = 0) -> Callable[[World], list[str]]:
    """`quoit bench` of the sound artifact, with a file of so many texts."""

    def arguments(world: World) -> list[str]:
        given = ["--texts", world.write("few.txt", "a\n" * texts)] if texts else []
        return ["bench", str(world.sources.artifact), *given, *more]

    return arguments


CASES = [
    Case(
        "no folder for tuning files",
        Command("quoit", bench_without_a_cache),
        InputError,
        "/cache",
        "name a file with --output",
    ),
    Case("an unknown goal", load(tuned="cheapness"), InputError, "tuned 'cheapness'", "one of latency, throughput"),
    Case("nothing was tuned", Command("quoit", embed_untuned), InputError, "nothing was tuned", "`quoit bench "),
    Case(
        "another tuning's format",
        tuned_for(lambda found: found.update(format=9)),
        InputError,
        "format 9",
        "`quoit bench ",
    ),
    Case("no tuning at all", tuned_for(dict.clear), InputError, "is no tuning file", "`quoit bench "),
    Case(
        "another machine's tuning",
        tuned_for(lambda found: found["place"].update(processor=LONG)),
        InputError,
        "made for processor 'xxx",
        "`quoit bench ",
    ),
    Case(
        "a benchmark of no time",
        Command("quoit", bench_arguments("--seconds", "0")),
        InputError,
        "--seconds 0.0",
        "must be from 1 to",
    ),
    Case(
        "a benchmark of a few texts",
        Command("quoit", bench_arguments(texts=3)),
        InputError,
        "few.txt has 3 texts",
        "name a longer file",
    ),
]
