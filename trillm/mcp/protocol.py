"""What the protocol's revisions say of every request: its version, envelope and shape, and what its result must carry.

The shapes are those of the SDK's ``mcp_types``, generated from the specification; a request is checked against them and
passed on as it came.
"""

from typing import Any

from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp_types.methods import CACHEABLE_METHODS, CLIENT_REQUESTS, SPEC_CLIENT_METHODS
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from trillm.errors import TrillmError
from trillm.mcp.errors import INTERNAL_ERROR, INVALID_PARAMS, RpcError, method_not_found, rpc_error
from trillm.mcp.session import LEVELS, META, Params, Request, Session, View

__all__ = ["answer", "check", "describe", "has_envelope", "negotiate", "read_envelope"]

#: How long a client may keep a list: change notices come sooner, but a client need not have asked for them.
LIST_TTL_MS = 5_000


def negotiate(requested: Any) -> str:
    """Return the version of the old era to speak with a client that asks for ``requested``."""
    return requested if requested in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION


def has_envelope(params: Params) -> bool:
    """Tell whether a request brings its own envelope, as all of the new era do."""
    meta = params.get("_meta")
    return isinstance(meta, dict) and f"{META}protocolVersion" in meta


def read_envelope(method: str, params: Params, headers: dict[str, str] | None = None) -> tuple[str, Params, Params]:
    """Return the version, the client's capabilities and its ``clientInfo`` from a new-era request.

    Args:
        method: of the request.
        params: with the envelope in ``_meta``.
        headers: of the HTTP request (lower-case names), which must repeat the body; None where there are none.

    Raises:
        RpcError: something is missing, not supported, or contradicts the headers.
    """
    route = classify_inbound_request({"method": method, "params": params}, headers=headers)
    if isinstance(route, InboundLadderRejection):
        raise RpcError(route.code, route.message, route.data)
    return route.protocol_version, _object(route.client_capabilities), _object(route.client_info)


def check(method: str, version: str, params: Params) -> None:
    """Raise :class:`RpcError` unless ``method`` exists in ``version`` and the specification allows ``params``.

    A method that is of no revision passes: it may be an extension's.
    """
    if method not in SPEC_CLIENT_METHODS:
        return
    shape = CLIENT_REQUESTS.get((method, version))
    if shape is None:
        raise method_not_found(method)
    try:
        shape.model_validate({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}, by_name=False)
    except ValidationError as exc:
        raise RpcError(INVALID_PARAMS, f"Invalid parameters for {method}: {_first_problem(exc)}") from exc


async def describe(view: View, session: Session) -> Params:
    """Return the result of ``initialize``."""
    return {"protocolVersion": session.version, **await view.describe(session)}


async def answer(view: View, request: Request, *, checked: bool = False) -> Params:
    """Return the result of any request but ``initialize``, complete by the rules of its era.

    Raises:
        RpcError: what to answer instead.
    """
    session = request.session
    if not checked:
        check(request.method, session.version, request.params)
    try:
        result = await _result(view, request)
    except TrillmError as exc:
        raise rpc_error(exc) from exc
    return await _completed(view, request, result) if session.is_modern else result


async def _result(view: View, request: Request) -> Params:
    match request.method:
        case "ping":
            return {}
        case "server/discover":
            described = await view.describe(request.session)
            described.pop("serverInfo", None)
            return {"supportedVersions": list(MODERN_PROTOCOL_VERSIONS), **described}
        case "logging/setLevel":
            level = request.params.get("level")
            if level not in LEVELS:
                raise RpcError(INVALID_PARAMS, f"No such log level: {level!r}; there are: {', '.join(LEVELS)}.")
            request.session.log_level = level
        case "resources/subscribe":
            result = await view.handle(request)
            request.session.subscribed.add(str(request.params.get("uri")))
            return result
        case "resources/unsubscribe":
            request.session.subscribed.discard(str(request.params.get("uri")))
    return await view.handle(request)


async def _completed(view: View, request: Request, result: Params) -> Params:
    """Add what a result of the new era must carry, unless it does."""
    completed = {"resultType": "complete", **result}
    if request.method in CACHEABLE_METHODS and completed["resultType"] == "complete":
        # What a caller is shown depends on its key.
        completed = {"ttlMs": LIST_TTL_MS, "cacheScope": "private", **completed}
    meta = completed.get("_meta") or {}
    if f"{META}serverInfo" not in meta:
        info = (await view.describe(request.session)).get("serverInfo")
        completed["_meta"] = {**meta, f"{META}serverInfo": info}
    return completed


def error_for(exc: Exception) -> RpcError:
    """Return what a client is told of any exception."""
    if isinstance(exc, RpcError):
        return exc
    if isinstance(exc, TrillmError):
        return rpc_error(exc)
    return RpcError(INTERNAL_ERROR, "trillm failed; its log says why.")


def _object(value: Any) -> Params:
    return value if isinstance(value, dict) else {}


def _first_problem(exc: ValidationError) -> str:
    first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
