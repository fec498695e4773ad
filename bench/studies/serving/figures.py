"""What the records of a scenario come to: percentiles, rates, slopes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bench.studies.serving.load import Record

Sample = tuple[float, float]
"""A time in seconds, and a value at it."""
PERCENTILES = (50, 90, 99)
STEADY_REQUESTS = 5
"""Number of requests in a row that have to be quick again before a server counts as recovered."""
Figures = dict[str, Any]


def latencies(records: Iterable[Record]) -> list[float]:
    """Seconds from the scheduled time of requests that were answered, and of those whose client gave up.

    Rejections are left out, since they are quick; `summary` counts them. A client that gave up would have waited
    longer, so what it did wait is a lower bound.
    """
    return [record.latency for record in records if record.outcome in ("answered", "gave up", "failed", "lost")]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles and the worst, in milliseconds; empty for nothing."""
    if not seconds:
        return {}
    found = np.percentile(np.array(seconds) * 1e3, PERCENTILES)
    named = {f"p{percent}": round(float(value), 2) for percent, value in zip(PERCENTILES, found, strict=True)}
    return named | {"worst": round(max(seconds) * 1e3, 2)}


def summary(records: Sequence[Record]) -> Figures:
    """Latency, outcomes and rates of a scenario's requests of one kind."""
    if not records:
        return {"requests": 0}
    answered = [record for record in records if record.outcome == "answered"]
    begin, end = min(record.scheduled for record in records), max(record.done for record in records)
    seconds = max(end - begin, 1e-9)
    late = [record.sent - record.scheduled for record in records if record.sent is not None]
    found = {
        "requests": len(records),
        "seconds": round(seconds, 3),
        "ms": spread(latencies(records)),
        "first_byte_ms": spread([each.first_byte - each.scheduled for each in answered if each.first_byte is not None]),
        "sent_late_ms": spread(late),
        "outcomes": dict(Counter(record.outcome for record in records)),
        "statuses": {str(status): count for status, count in Counter(record.status for record in records).items()},
        "requests_per_second": round(len(answered) / seconds, 3),
        "tokens_per_second": round(sum(record.tokens for record in answered) / seconds, 2),
    }
    rejected = [record.latency for record in records if record.outcome == "rejected"]
    return found | ({"rejected_ms": spread(rejected)} if rejected else {})


def slope(samples: Sequence[Sample]) -> float:
    """Least squares slope of values over time, in their unit a second; 0 for fewer than two."""
    if len(samples) < 2:
        return 0.0
    times, values = np.array(samples, np.float64).T
    times = times - times.mean()
    spread_of_times = float(times @ times)
    return float(times @ (values - values.mean())) / spread_of_times if spread_of_times else 0.0


def memory(samples: Sequence[Sample]) -> Figures:
    """First, last, largest resident memory, in MB, and its slope in MB a minute."""
    if not samples:
        return {}
    values = [value / 1e6 for _, value in samples]
    return {
        "first_mb": round(values[0], 1),
        "last_mb": round(values[-1], 1),
        "largest_mb": round(max(values), 1),
        "mb_per_minute": round(slope(samples) / 1e6 * 60, 3),
    }


def recovery(records: Sequence[Record], ended: float, limit: float) -> float | None:
    """Seconds after `ended` from which queries are quick: several in a row answered within `limit` seconds.

    None if that did not happen.
    """
    row: list[Record] = []
    for record in sorted(records, key=lambda each: each.scheduled):
        if record.scheduled < ended:
            continue
        row = [*row, record] if record.outcome == "answered" and record.latency <= limit else []
        if len(row) == STEADY_REQUESTS:
            return max(row[0].done - ended, 0.0)
    return None


def counters(text: str) -> dict[str, float]:
    """The values of a page of Prometheus metrics, by name and labels as they are written there."""
    pairs = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}
