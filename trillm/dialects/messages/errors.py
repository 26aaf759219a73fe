"""Errors as Anthropic's clients expect them. Source: its API reference (errors), and its Python client 2.14."""

from typing import Any

import msgspec

from trillm.errors import TrillmError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def envelope(error: TrillmError, request_id: str | None = None) -> dict[str, Any]:
    """Return ``{"type": "error", "error": {"type", "message", …}}``, with our ``code`` and such as extras."""
    told = error.envelope()["error"]
    kind = _TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "api_error")
    wrapped = {"type": "error", "error": {**told, "type": kind, "message": error.message}}
    return wrapped if request_id is None else wrapped | {"request_id": request_id}


def error_event(error: TrillmError) -> bytes:
    """Return the event that ends a stream when something went wrong."""
    return b"event: error\ndata: " + msgspec.json.encode(envelope(error)) + b"\n\n"
