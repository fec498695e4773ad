"""Write a line for each request, as text or JSON. No line has a text or a key."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from quoit.server.call import Call
from quoit.server.settings import LogFormat

MAX_AGENT = 80

requests = logging.getLogger("quoit.server.requests")


class JsonLines(logging.Formatter):
    """Formats records as one line of JSON each; a request's fields are those of `log_request`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
        }
        fields = getattr(record, "fields", None)
        line |= {"message": record.getMessage()} if fields is None else fields
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def set_up(form: LogFormat) -> None:
    """Send the server's log to standard error, in one form; warnings of the HTTP library and of asyncio too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("quoit: %(message)s"))
    for name, level in (("quoit", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def log_request(call: Call, method: str, status: int, seconds: float) -> None:
    """Write the line of a request that was answered; successful requests for health are left out."""
    if not requests.isEnabledFor(logging.INFO) or (status < 400 and call.texts == 0 and method == "GET"):
        return
    answered = call.answered
    fields = {
        "id": call.id,
        "method": method,
        "route": call.route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "queue_ms": _milliseconds(each.queue_seconds for each in answered),
        "tokenize_ms": _milliseconds(each.tokenize_seconds for each in answered),
        "compute_ms": _milliseconds(each.compute_seconds for each in answered),
        "texts": call.texts,
        "tokens": sum(each.tokens for each in answered),
        "cut": sum(each.truncation.texts for each in answered),
        "lane": answered[0].lane if answered else None,
        "owner": call.owner,
        "agent": call.headers.get("user-agent", "")[:MAX_AGENT],
        "traceparent": call.headers.get("traceparent"),
    }
    line = "%(method)s %(route)s %(status)d, %(ms).1f ms, %(texts)d texts, %(tokens)d tokens"
    requests.info(line, fields, extra={"fields": fields})


def _milliseconds(seconds: Any) -> float:
    return round(max(seconds, default=0.0) * 1000, 1)
