"""Log lines: text for people, JSON for machines, each with the request it belongs to."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from flask import has_request_context

from pulse.config import Config


class _Context(logging.Filter):
    def __init__(self, request_id: Callable[[], str] | None) -> None:
        super().__init__()
        self._request_id = request_id

    def filter(self, record: logging.LogRecord) -> bool:
        known = self._request_id is not None and has_request_context()
        record.request_id = self._request_id() if known else ""  # type: ignore[misc]
        return True


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if getattr(record, "request_id", ""):
            line["requestId"] = record.request_id  # type: ignore[attr-defined]
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        found = getattr(record, "request_id", "")
        return f"{text} [{found}]" if found else text


def set_up_logging(config: Config, request_id: Callable[[], str] | None = None) -> None:
    """Send every log line to standard error in the chosen format; `request_id` tells the present request's id."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Context(request_id))
    text = _TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    handler.setFormatter(_JsonFormatter() if config.log_format == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log_level.upper())
    logging.getLogger("pulse.storage.pool").setLevel(logging.WARNING)  # SQLAlchemy tells of each pool it empties
