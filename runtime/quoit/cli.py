"""The command `quoit`."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable

from quoit.commands import bench, embed, inspect, rank
from quoit.errors import QuoitError

USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        options = make_parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = options.run
        logging.basicConfig(format="quoit: %(message)s")
        return command(options)
    except (QuoitError, OSError) as error:
        report(str(error), error)
        return USAGE_ERROR
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_interrupt(error):
            raise
        report("interrupted, no output was written", error)
        return INTERRUPTED


def entry() -> int:
    """`main` for a process of its own: once it has returned, Ctrl-C finds nothing left to stop.

    Python still waits for its threads then, and an interrupt there would end a command that did all it was asked in
    a traceback. Python leaves a signal that is ignored as it is until the process ends.
    """
    try:
        return main()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C ended the run.

    One that arrives while `threading.Condition.wait` gives its lock away surfaces as the RuntimeError of a lock that
    was not held, with the interrupt as its context.
    """
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)


def report(message: str, error: BaseException) -> None:
    """Prints an error as one line, with what was noted on its way."""
    line = "; ".join([f"quoit: {message}", *getattr(error, "__notes__", [])])
    print(" ".join(line.splitlines()), file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(prog="quoit", description="Qwen3 embeddings and rerankers on ONNX Runtime.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (embed, rank, inspect, bench):
        module.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(entry())
