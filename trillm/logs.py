"""How log lines look: ``key=value`` text for people, or one JSON object a line for machines.

Keys, prompts and answers are never logged; nothing here could redact them, so nobody hands them over.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal

LogFormat = Literal["text", "json"]

_NEEDS_QUOTES = re.compile(r'[ "=]')


#: Makes a line of: seconds since 1970, level, logger, message, fields.
Format = Callable[[float, str, str, str, Mapping[str, Any]], str]


def _text(created: float, level: str, name: str, message: str, fields: Mapping[str, Any]) -> str:
    shown = [
        f" {key}={value:.4g}" if value.__class__ is float else f" {key}={_quoted(str(value))}"
        for key, value in fields.items()
        if value is not None and key != "exception"
    ]
    exception = "\n" + fields["exception"] if "exception" in fields else ""
    return f"{_timestamp(created)} {_said(level, name, message)}{''.join(shown)}{exception}"


@lru_cache(maxsize=256)
def _said(level: str, name: str, message: str) -> str:
    return f"{level.lower():7} {name.removeprefix('trillm.')}: {_printable(message)}"


def _json(created: float, level: str, name: str, message: str, fields: Mapping[str, Any]) -> str:
    line = {"time": _timestamp(created), "level": level.lower(), "logger": name, "message": message}
    line |= {key: value for key, value in fields.items() if value is not None}
    return json.dumps(line, default=str)


def _of_worker(line: Format, worker: int) -> Format:
    def labelled(created: float, level: str, name: str, message: str, fields: Mapping[str, Any]) -> str:
        return line(created, level, name, message, {"worker": worker, **fields})

    return labelled


class _Formatter(logging.Formatter):
    """A formatter over one of the formats above."""

    def __init__(self, line: Format) -> None:
        super().__init__()
        self.line = line

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        if record.exc_info:
            fields = {**fields, "exception": self.formatException(record.exc_info)}
        return self.line(record.created, record.levelname, record.name, record.getMessage(), fields)


class _StandardError(logging.Handler):
    """One system call per line, nothing buffered: what was logged before a crash is there after it."""

    def __init__(self, line: Format) -> None:
        super().__init__()
        self.line = line
        self.setFormatter(_Formatter(line))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record))
        except OSError:
            self.handleError(record)

    def write(self, line: str) -> None:
        os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")


def info(log: logging.Logger, message: str, fields: Mapping[str, Any]) -> None:
    """Do as ``log.info(message, extra={"fields": fields})``, for the line that every request writes.

    A record on its way through filters and handlers costs twice as much as its line.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    match logging.root.handlers:
        case [_StandardError() as ours]:
            try:
                ours.write(ours.line(time.time(), "INFO", log.name, message, fields))
            except OSError:
                pass  # below, logging itself says what it can
            else:
                return
    log.info(message, extra={"fields": fields})


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what was given as ``extra={"fields": {...}}``."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
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


def configure(log_format: LogFormat = "text", level: str = "info", *, worker: int | None = None) -> None:
    """Send the program's log to standard error in the given form; each line with the ``worker``, if there are some."""
    # Looking these up costs more than writing the line, and no line shows them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - documented: "Optimization" in logging's how-to
    line = _json if log_format == "json" else _text
    handler = _StandardError(line if worker is None else _of_worker(line, worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "httpx2", "httpcore2", "hypercorn", "mcp", "quart"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
