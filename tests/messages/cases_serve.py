"""Errors of `quoit serve` and `quoit health` before a server listens."""

import sys
from collections.abc import Callable
from typing import Any, cast

from messages.harness import Case, Command, World
from quoit import InputError
from quoit.cli.main import make_parser


def serve(*arguments: str) -> Command:
    """The command with an artifact that is there, and some options."""
    return Command("quoit", lambda world: ["serve", str(world.sources.artifact), *arguments])


def without_the_extra(world: World) -> object:
    world.patch.setitem(sys.modules, "quoit.server.run", cast("Any", None))  # an import block: the tests have it
    options = make_parser().parse_args(["serve", str(world.sources.artifact)])
    return options.run(options)


def keys_of(content: bytes | str) -> Callable[[World], list[str]]:
    return lambda world: ["serve", str(world.sources.artifact), "--api-key-file", world.write("keys", content)]


def one_name_for_both(world: World) -> list[str]:
    folders = ["serve", str(world.sources.artifact), "--reranker", str(world.sources.reranker)]
    return [*folders, "--name", "m", "--reranker-name", "m"]


def open_to_every_site(world: World) -> list[str]:
    world.patch.setenv("QUOIT_API_KEY", "secret")
    return ["serve", str(world.sources.artifact), "--cors-origin", "*"]


def nothing_to_serve(world: World) -> list[str]:
    world.patch.delenv("QUOIT_MODEL", raising=False)
    return ["serve"]


CASES = [
    Case("no server installed", without_the_extra, InputError, "is not installed", "pip install 'quoit[server]'"),
    Case(
        "nothing to serve",
        Command("quoit", nothing_to_serve),
        InputError,
        "no artifact was named",
        "quoit serve FOLDER",
    ),
    Case("one name", Command("quoit", one_name_for_both), InputError, "both 'm'", "choose two names"),
    Case("a port that no machine has", serve("--port", "70000"), InputError, "--port 70000", "use 0 to 65,535"),
    Case("any site with a key", Command("quoit", open_to_every_site), InputError, "--cors-origin *", "name the sites"),
    Case("no file of keys", serve("--api-key-file", "/absent"), InputError, "/absent", "name a text file"),
    Case("an empty file of keys", Command("quoit", keys_of("\n")), InputError, "has no API key", "write one in a line"),
    Case("no address", Command("quoit", lambda _: ["health", "localhost"]), InputError, "'localhost'", "use http://"),
]
