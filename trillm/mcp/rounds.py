"""Answers of the new era that ask for something first (``input_required``, SEP-2322), answered on a client's behalf.

A client of the old era is asked by requests of its own era, and the call is put again with what it said. What asks for
a model can be answered by one of trillm's. Nothing is kept between rounds.
"""

from collections.abc import Awaitable, Callable

from trillm.mcp.errors import INTERNAL_ERROR, RpcError
from trillm.mcp.relay import SAMPLING, Sampler
from trillm.mcp.session import CAPABILITY, META, Params, Request
from trillm.registry.mcpentries import McpServer

#: How often one call may ask.
MOST_ROUNDS = 10

#: What only results of the new era carry.
_NEW = ("resultType", "ttlMs", "cacheScope")


async def put(share: Callable[[Params], Awaitable[Params]], request: Request, params: Params) -> Params:
    """Put the request of a client of the old era to an upstream of the new, and ask the client what that asks.

    Args:
        share: puts it to the upstream.
        request: the client's.
        params: with the upstream's names in them.

    Raises:
        RpcError: the upstream's, or the client's refusal.
    """
    session = request.session
    meta = {**request.meta, f"{META}clientCapabilities": dict(session.capabilities)}
    if session.log_level is not None:
        meta[f"{META}logLevel"] = session.log_level
    params = {**params, "_meta": meta}
    for _ in range(MOST_ROUNDS):
        result = await share(params)
        asks = _asks(result)
        if asks is None:
            return _older(result)
        answers = {name: await _ask(request, ask) for name, ask in asks.items()}
        params = _answered(params, result, answers)
    raise endless()


async def sampled(server: McpServer, sampler: Sampler | None, params: Params, result: Params) -> Params | None:
    """Return the parameters to put the call again with, when all that ``result`` asks for is a model's answer.

    None when there is nothing to answer here: the result is then the client's.
    """
    asks = _asks(result)
    if sampler is None or not server.sampling or not asks:
        return None
    if any(ask.get("method") != SAMPLING for ask in asks.values()):
        return None
    answers = {name: await sampler(server.sampling, ask.get("params") or {}) for name, ask in asks.items()}
    return _answered(params, result, answers)


def _asks(result: Params) -> dict[str, Params] | None:
    """Return what a result asks for, by name; None when it is final. A result may ask for nothing but to come again."""
    if result.get("resultType") != "input_required":
        return None
    asks = result.get("inputRequests")
    return {name: ask for name, ask in asks.items() if isinstance(ask, dict)} if isinstance(asks, dict) else {}


async def _ask(request: Request, ask: Params) -> Params:
    method = ask.get("method")
    if method not in CAPABILITY:
        raise RpcError(INTERNAL_ERROR, f"The MCP server asks for {method!r}, which no client of this era knows.")
    request.require(method)
    return await request.ask(method, ask.get("params") or {})


def _answered(params: Params, result: Params, answers: dict[str, Params]) -> Params:
    again = {name: value for name, value in params.items() if name != "requestState"} | {"inputResponses": answers}
    return {**again, "requestState": result["requestState"]} if "requestState" in result else again


def _older(result: Params) -> Params:
    """Return a result without what the old era does not know."""
    older = {name: value for name, value in result.items() if name not in _NEW}
    if isinstance(meta := older.get("_meta"), dict):
        meta = {name: value for name, value in meta.items() if name != f"{META}serverInfo"}
        older = {**older, "_meta": meta} if meta else {name: value for name, value in older.items() if name != "_meta"}
    return older


def endless() -> RpcError:
    """Return the error of a call that asks again and again."""
    return RpcError(INTERNAL_ERROR, f"The MCP server asked more than {MOST_ROUNDS} times in one call.")
