"""What export refuses, below the error tree of `quoit.errors`."""

from quoit.errors import QuoitError


class CheckpointError(QuoitError):
    """A checkpoint that is absent, incomplete, or of no family that quoit exports."""


class ExportError(QuoitError):
    """The output folder cannot be written: it holds something else, is in use, or the disk is too small."""


class ParityError(QuoitError):
    """A variant is further from its reference than its floor allows."""
