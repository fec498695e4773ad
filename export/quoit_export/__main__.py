"""Start the command `quoit-export`, also as `python -m quoit_export`."""

import sys

from quoit.cli.process import start


def entry() -> int:
    """Run the whole program and return its exit code."""
    return start("quoit-export", "quoit_export.cli", "quoit[export]")


if __name__ == "__main__":
    sys.exit(entry())
