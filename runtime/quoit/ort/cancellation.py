"""End a run of a session from another thread."""

from typing import Any

from quoit.ort.module import onnxruntime

FATAL = 4
"""Log severity with which onnxruntime is silent about a run that was ended."""


class RunCancelledError(Exception):
    """A run was ended before it had answers."""


class Cancellation:
    """A switch for one run: `cancel` ends it within the time of one operator.

    Attributes:
        options: the run's options, which carry onnxruntime's own switch.
        cancelled: True after `cancel`.
    """

    def __init__(self) -> None:
        self.options: Any = onnxruntime().RunOptions()
        self.options.log_severity_level = FATAL
        self.cancelled = False

    def cancel(self) -> None:
        """End the run if it is still going on; any thread may call this, more than once."""
        self.cancelled = True
        self.options.terminate = True
