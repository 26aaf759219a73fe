"""JSON-RPC 2.0 messages as JSON text, and what to say of what is none. Pure."""

from typing import Any, TypeAlias

import msgspec

from trillm.mcp.errors import INVALID_REQUEST, PARSE_ERROR, RpcError

Id: TypeAlias = str | int
Params: TypeAlias = dict[str, Any]

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def error_message(id: Id | None, error: RpcError) -> bytes:  # noqa: A002
    """Return the message that answers a request with an error."""
    return encode({"jsonrpc": "2.0", "id": id, "error": error.to_json()})


def decode(text: str | bytes) -> Any:
    """Return the JSON value; raise :class:`RpcError` when it is none."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise RpcError(PARSE_ERROR, "Not JSON.") from exc


def id_of(message: Any) -> Id | None:
    """Return the id of a message, or None if it has none that may be one."""
    id_ = message.get("id") if isinstance(message, dict) else None
    return id_ if isinstance(id_, str | int) and not isinstance(id_, bool) else None


def no_request(message: Any) -> RpcError:
    """Return what to say of JSON that is no message."""
    if isinstance(message, list):
        return RpcError(INVALID_REQUEST, "Batches are not part of MCP since 2025-06-18: send one message per frame.")
    return RpcError(INVALID_REQUEST, 'No JSON-RPC 2.0 message: {"jsonrpc": "2.0", "method": …} is one.')
