"""`python -m bench`, from the repository's root: systems side by side, times of stages, and the pages' tables."""

import argparse

from bench import pages
from bench.micro import stages
from bench.side_by_side import compare, report, run

COMMANDS = {
    "run": (run, "measure what is missing; an interrupted run goes on"),
    "report": (report, "a Markdown page with plots from a result"),
    "compare": (compare, "how far two results are apart"),
    "micro": (stages, "time single stages, by pytest-benchmark"),
    "pages": (pages, "write the generated tables into the pages that show them"),
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="quoit and others on the same texts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, words) in COMMANDS.items():
        command = commands.add_parser(name, help=words)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args()
    try:
        options.run(options)
    except KeyboardInterrupt:
        raise SystemExit("interrupted; what was measured is kept, and the same command goes on") from None


if __name__ == "__main__":
    main()
