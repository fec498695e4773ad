"""`python -m bench`: systems side by side, from the repository's root."""

import argparse

from bench import run


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="quoit and others on the same texts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="measure what is missing; an interrupted run goes on")
    run.add_arguments(command)
    command.set_defaults(run=run.run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
