"""The command `quoit`, also as `python -m quoit`."""

import sys

from quoit.process import start


def entry() -> int:
    """The whole program; returns its exit code."""
    return start("quoit", "quoit.cli")


if __name__ == "__main__":
    sys.exit(entry())
