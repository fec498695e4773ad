"""Schedule the rows of many callers on loaded models."""

from quoit.engine.scheduler.requests import Lane, Request, Terms
from quoit.engine.scheduler.scheduler import BULK_SHARE, MAX_QUEUED_TOKENS, BatchRun, Counts, Scheduler

__all__ = ["BULK_SHARE", "MAX_QUEUED_TOKENS", "BatchRun", "Counts", "Lane", "Request", "Scheduler", "Terms"]
