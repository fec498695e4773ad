"""Run the command `quoit`, also as `python -m quoit`."""

import sys

from quoit.cli.process import start


def entry() -> int:
    """Run the whole program and return its exit code."""
    return start("quoit", "quoit.cli.main")


if __name__ == "__main__":
    sys.exit(entry())
