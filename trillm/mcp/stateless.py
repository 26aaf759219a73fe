"""Streamable HTTP in the new era: each POST is a whole conversation, and its headers repeat its body.

A client that closes the connection has cancelled; the reply becomes a stream if there is something to tell first.
"""

from typing import Any

from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    find_duplicated_routing_header,
    validate_mcp_param_headers,
)

from trillm.errors import TrillmError
from trillm.gateway.access import Caller
from trillm.mcp import protocol
from trillm.mcp.errors import HEADER_MISMATCH, INVALID_REQUEST, RpcError, method_not_found
from trillm.mcp.messages import encode, error_message, id_of, no_request
from trillm.mcp.outlet import Outlet
from trillm.mcp.session import Params, Request, Session, View
from trillm.wire.http_request import HttpRequest

_PARAM_PREFIX = "mcp-param-"


async def answer(
    view: View, caller: Caller, message: Any, request: HttpRequest, headers: dict[str, str], outlet: Outlet
) -> None:
    """Answer a request of the new era, in the task of its connection.

    Raises:
        RpcError: what came is no request.
    """
    match message:
        case {"jsonrpc": "2.0", "method": str(method)} if "id" not in message:
            # There is nothing a notification could be about: a request is cancelled by closing its connection.
            return await outlet.nothing(202)
        case {"jsonrpc": "2.0", "method": str(method), "id": id} if id_of(message) is not None:
            params = message.get("params", {})
        case _:
            raise no_request(message)
    try:
        answered, status = await _result(view, caller, (id, method, params), request, headers, outlet), 200
    except (RpcError, TrillmError) as exc:
        error = protocol.error_for(exc)
        answered, status = error_message(id, error), ERROR_CODE_HTTP_STATUS.get(error.code, 200)
    return await outlet.answer(answered, status)


async def _result(
    view: View,
    caller: Caller,
    asked: tuple[str | int, str, Any],
    request: HttpRequest,
    headers: dict[str, str],
    outlet: Outlet,
) -> bytes:
    id, method, params = asked  # noqa: A001 - the protocol's word
    duplicate = find_duplicated_routing_header(
        (n.decode("latin-1"), v.decode("latin-1")) for n, v in request.raw_headers
    )
    if duplicate is not None:
        raise RpcError(HEADER_MISMATCH, f"The header {duplicate} came more than once.")
    if not isinstance(params, dict):
        raise RpcError(INVALID_REQUEST, "params must be an object.")
    version, capabilities, client = protocol.read_envelope(method, params, headers)
    session = Session("", caller, version, capabilities, client)
    if method == "initialize":
        raise method_not_found(method)
    _check_param_headers(view, session, method, params, headers)

    async def notify(name: str, told: Params) -> None:
        await outlet.tell(encode({"jsonrpc": "2.0", "method": name, "params": told}))

    result = await protocol.answer(view, Request(id, method, params, session, notify))
    return encode({"jsonrpc": "2.0", "id": id, "result": result})


def _check_param_headers(view: View, session: Session, method: str, params: Params, headers: dict[str, str]) -> None:
    """Raise :class:`RpcError` when headers that repeat arguments of a tool do not (SEP-2243)."""
    if method != "tools/call":
        return
    arguments = params.get("arguments") or {}
    if not arguments and not any(name.startswith(_PARAM_PREFIX) for name in headers):
        return
    schema = view.input_schema(session, str(params.get("name")))
    if schema is None or not isinstance(arguments, dict):
        return
    rejected = validate_mcp_param_headers(schema, arguments, headers)
    if isinstance(rejected, InboundLadderRejection):
        raise RpcError(rejected.code, rejected.message, rejected.data)
