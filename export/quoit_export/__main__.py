"""The command `quoit-export`, also as `python -m quoit_export`."""

import sys

from quoit.cli.process import start


def entry() -> int:
    """The whole program; returns its exit code."""
    return start("quoit-export", "quoit_export.cli", "quoit[export]")


if __name__ == "__main__":
    sys.exit(entry())
