"""How log lines look: ``key=value`` text for people, or one JSON object a line for machines.

Keys, prompts and answers are never logged; nothing here could redact them, so nobody hands them over.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        line = f"{at} {record.levelname.lower():7} {record.name.removeprefix('trillm.')}: {record.getMessage()}"
        fields = _fields(record)
        line += "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= _fields(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what was given as ``extra={"fields": {...}}``, without what is None."""
    return {key: value for key, value in getattr(record, "fields", {}).items() if value is not None}


def _quoted(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n') else text


def configure(log_format: LogFormat = "text", level: str = "info") -> None:
    """Send the program's log to standard error in the given form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "hypercorn", "quart"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
