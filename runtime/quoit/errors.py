"""The error tree of quoit.

    QuoitError
    ├── ArtifactError     an artifact that is absent, damaged, rejected or of another kind
    ├── InputError        a text, argument or file the caller gave cannot be used (also a ValueError)
    ├── ProviderError     onnxruntime, or the execution provider asked for, cannot run here
    └── ComputeError      the model ran and gave values that are not finite

`quoit_export` adds CheckpointError, ExportError and ParityError below QuoitError.

Every message names the offending value and the next step. The command line prints the message alone and
exits with code 2.
"""


class QuoitError(Exception):
    """Whatever quoit refuses; catch this to catch all of them."""


class ArtifactError(QuoitError):
    """An artifact that is absent, damaged, rejected or of another kind."""


class InputError(QuoitError, ValueError):
    """A text, argument or file the caller gave cannot be used."""


class ProviderError(QuoitError):
    """onnxruntime, or the execution provider asked for, cannot run here."""


class ComputeError(QuoitError):
    """The model ran and gave values that are not finite."""


def shown(value: object) -> str:
    """The beginning of a value's `repr`, for a message; some values have none."""
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):
        return "that cannot be shown"
