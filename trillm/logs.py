"""How log lines look: ``key=value`` text for people, or one JSON object a line for machines.

Keys, prompts and answers are never logged; nothing here could redact them, so nobody hands them over.
"""

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

LogFormat = Literal["text", "json"]

_NEEDS_QUOTES = re.compile(r'[ "=]')


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("trillm.")
        line = f"{_timestamp(record.created)} {record.levelname.lower():7} {name}: {_printable(record.getMessage())}"
        for key, value in _fields(record).items():
            if value is not None:
                line += f" {key}={_quoted(value)}"
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in _fields(record).items() if value is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _StandardError(logging.Handler):
    """One system call per line, nothing buffered: what was logged before a crash is there after it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(2, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            self.handleError(record)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what was given as ``extra={"fields": {...}}``."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


def _quoted(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if text and text.isprintable() and not _NEEDS_QUOTES.search(text) else json.dumps(text)


def _printable(text: str) -> str:
    """Escape what would begin a line of its own or move the terminal's cursor: some words are a backend's."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _timestamp(at: float) -> str:
    second = int(at)
    return f"{_to_the_second(second)}.{int((at - second) * 1000):03}Z"


@lru_cache(maxsize=4)
def _to_the_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def configure(log_format: LogFormat = "text", level: str = "info") -> None:
    """Send the program's log to standard error in the given form."""
    # Looking these up costs more than writing the line, and no line shows them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - documented: "Optimization" in logging's how-to
    handler = _StandardError()
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "hypercorn", "quart"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
