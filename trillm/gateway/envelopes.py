"""Errors on their way to the caller: in whose shape they are told, and how they are sent."""

from typing import Any

import msgspec

from trillm.dialects.dialect import Dialect, dialect_of
from trillm.dialects.ranking import errors as ranking
from trillm.errors import TrillmError
from trillm.gateway.reply import Headers, Reply
from trillm.models import Operation


async def send_error(
    reply: Reply,
    error: TrillmError,
    request_id: str,
    headers: Headers,
    operation: Operation | None = None,
    body: bytes = b"",
) -> None:
    """Answer with ``error``; for faces too, when a request never becomes a call. Otherwise as :func:`envelope_of`."""
    told = msgspec.json.encode(envelope_of(error, request_id, operation, body))
    said = [
        (b"content-type", b"application/json"),
        *id_headers(request_id, dialect_of(operation)),
        *headers,
        *error.headers(),
    ]
    await reply.start(error.status, said, length=len(told))
    await reply.finish(told)


def envelope_of(
    error: TrillmError, request_id: str, operation: Operation | None = None, body: bytes = b""
) -> dict[str, Any]:
    """Return the error object for who asked: OpenAI's, unless the operation is another's.

    Args:
        error: what went wrong.
        request_id: of the request.
        operation: what was asked for, if that is known.
        body: the request's, as far as it was read.
    """
    if operation is Operation.RERANK:
        return ranking.envelope(error, body)
    dialect = dialect_of(operation)
    return error.envelope() if dialect is None else dialect.envelope(error, request_id)


def error_event(error: TrillmError) -> bytes:
    """Return what ends a stream of chat completions that has begun, when something goes wrong."""
    return b"data: " + msgspec.json.encode(error.envelope()) + b"\n\n"


def id_headers(request_id: str, dialect: Dialect | None) -> Headers:
    """Return the headers that tell a request's id, also under the name that the caller's clients look for."""
    value = request_id.encode()
    known = [(b"x-request-id", value)]
    return known if dialect is None or dialect.id_header is None else [*known, (dialect.id_header, value)]
