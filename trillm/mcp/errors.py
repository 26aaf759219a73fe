"""JSON-RPC errors: one exception, the codes of JSON-RPC 2.0 §5.1 and of MCP, and how ours become them."""

from typing import Any

from trillm.errors import BadRequest, Forbidden, NoSuchModel, TrillmError

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
CONNECTION_CLOSED = -32000
RESOURCE_NOT_FOUND = -32002
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
#: Ours, in the range JSON-RPC leaves to servers.
NOT_ALLOWED = -32003
TOO_MANY_REQUESTS = -32004


class RpcError(Exception):
    """An error that the other side is answered with, or that it answered with.

    Args:
        code: see the constants of this module.
        message: one sentence for a person.
        data: whatever JSON goes with it, or None.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """Return the JSON-RPC error object."""
        error = {"code": self.code, "message": self.message}
        return error if self.data is None else {**error, "data": self.data}


def rpc_error(error: TrillmError) -> RpcError:
    """Return what an MCP client is told when trillm itself refuses or fails."""
    match error:
        case Forbidden():
            code = NOT_ALLOWED
        case NoSuchModel() | BadRequest():
            code = INVALID_PARAMS
        case _:
            code = INTERNAL_ERROR
    return RpcError(code, error.message, error.envelope()["error"])


def method_not_found(method: str) -> RpcError:
    """Return JSON-RPC's answer to a method nobody serves."""
    return RpcError(METHOD_NOT_FOUND, f"Method not found: {method}", method)
