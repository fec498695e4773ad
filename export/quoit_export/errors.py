"""Define the errors of export, as part of the error tree of `quoit.errors`."""

from quoit.errors import QuoitError


class CheckpointError(QuoitError):
    """The checkpoint is absent, is incomplete, or belongs to no family that quoit exports."""


class ExportError(QuoitError):
    """The output folder cannot be written: it holds something else, is in use, or the disk is too small."""


class ParityError(QuoitError):
    """A variant is further from its reference than its floor allows."""
