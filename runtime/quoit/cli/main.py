"""Define and run the command line of `quoit`."""

import argparse
import sys
from collections.abc import Callable

from quoit.cli import bench, cache, embed, inspect, rank, search, serve
from quoit.cli.process import guarded, version_of


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return guarded("quoit", lambda: run(arguments))


def run(arguments: list[str] | None) -> int:
    """Run the command line like `main`, but let errors rise."""
    options = make_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    return command(options)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line's arguments."""
    parser = argparse.ArgumentParser(prog="quoit", description="Qwen3 embeddings and rerankers on ONNX Runtime.")
    parser.add_argument("--version", action="version", version=version_of("quoit"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (embed, rank, search, serve, inspect, bench, cache):
        module.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
