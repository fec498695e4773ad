"""The error tree of quoit.

    QuoitError
    ├── ArtifactError     an artifact that is absent, damaged, rejected or of another kind
    ├── InputError        a text, argument or file the caller gave cannot be used (also a ValueError)
    ├── ProviderError     onnxruntime, or the execution provider asked for, cannot run here
    ├── ComputeError      the model ran and gave values that are not finite
    ├── OverloadedError   more work is queued than can be done in time; try again later
    └── DeadlineError     the work was not done in time (also a TimeoutError)

`quoit_export` adds CheckpointError, ExportError and ParityError below QuoitError.

Every message names the offending value and the next step, in one line of bounded length whatever the value is.
The command line prints the message alone and exits with code 2.
"""

import re

ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")


class QuoitError(Exception):
    """Base class of all errors that quoit raises; catch it to catch all of them."""


class ArtifactError(QuoitError):
    """An artifact that is absent, damaged, rejected or of another kind."""


class InputError(QuoitError, ValueError):
    """A text, argument or file the caller gave cannot be used."""


class ProviderError(QuoitError):
    """onnxruntime, or the execution provider asked for, cannot run here."""


class ComputeError(QuoitError):
    """The model ran and gave values that are not finite."""


class OverloadedError(QuoitError):
    """More work is queued than can be done in time.

    Attributes:
        retry_after: number of seconds after which there should be room.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(QuoitError, TimeoutError):
    """The work was not done in time."""


def brief(text: object, most: int = 200) -> str:
    """Return a text or an error for a message: on one line, and cut to at most `most` characters."""
    line = " ".join(part.strip() for part in str(text).splitlines())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def shown(value: object) -> str:
    """Return the beginning of a value's `repr` for a message, without addresses; a fixed phrase if `repr` fails."""
    try:
        return brief(ADDRESS.sub("", repr(value)), 80)
    except Exception:  # nested too deep, too many digits, or any error of a foreign repr
        return "that cannot be shown"
