"""The resources trillm itself offers: its servers, models and metrics, to be read as they are now."""

from collections.abc import Sequence
from typing import Any

import msgspec

from trillm.mcp.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND, RpcError
from trillm.mcp.house import House, shown_models, shown_servers
from trillm.mcp.paging import page
from trillm.mcp.session import Params, Request
from trillm.metrics import CONTENT_TYPE

SERVERS, MODELS, METRICS = "trillm://servers", "trillm://models", "trillm://metrics"
JSON = "application/json"

_FIXED = (
    {"uri": SERVERS, "name": "servers", "title": "Servers", "description": "How each is doing.", "mimeType": JSON},
    {"uri": MODELS, "name": "models", "title": "Models", "description": "Which may be asked.", "mimeType": JSON},
    {
        "uri": METRICS,
        "name": "metrics",
        "title": "Metrics",
        "description": "Counters in Prometheus' text format. They change all the time, so nobody is told of it.",
        "mimeType": CONTENT_TYPE,
    },
)
TEMPLATE = {
    "uriTemplate": f"{SERVERS}/{{name}}",
    "name": "server",
    "title": "One server",
    "description": "How it is doing.",
    "mimeType": JSON,
}


def server_uri(name: str) -> str:
    """Return the URI of one server."""
    return f"{SERVERS}/{name}"


async def list_resources(house: House, request: Request) -> Params:
    """Answer ``resources/list``."""
    return page("resources", [*_FIXED, *map(_server, house.gateway.pool.members)], request.params)


def _server(name: str) -> Params:
    return {"uri": server_uri(name), "name": f"servers/{name}", "title": f"Server {name}", "mimeType": JSON}


async def list_templates(_house: House, request: Request) -> Params:
    """Answer ``resources/templates/list``."""
    return page("resourceTemplates", [TEMPLATE], request.params)


async def read_resource(house: House, request: Request) -> Params:
    """Answer ``resources/read``."""
    uri = str(request.params.get("uri"))
    if uri == METRICS:
        text, kind = house.gateway.metrics.exposition().decode(), CONTENT_TYPE
    else:
        text, kind = msgspec.json.encode(_value(house, uri, request)).decode(), JSON
    return {"contents": [{"uri": uri, "mimeType": kind, "text": text}]}


async def subscribe(house: House, request: Request) -> Params:
    """Answer ``resources/subscribe`` and ``resources/unsubscribe``: who is told is the transport's business."""
    uri = str(request.params.get("uri"))
    if uri != METRICS:
        _value(house, uri, request)
    return {}


def _value(house: House, uri: str, request: Request) -> Any:
    if uri == MODELS:
        return {"models": shown_models(house, request)}
    servers = shown_servers(house, request)
    if uri == SERVERS:
        return {"servers": list(servers.values())}
    prefix, _, name = uri.rpartition("/")
    if prefix == SERVERS and name in servers:
        return servers[name]
    code = INVALID_PARAMS if request.session.is_modern else RESOURCE_NOT_FOUND
    raise RpcError(code, f"No such resource: {uri}", {"uri": uri})


def matching(house: House, ref: Params) -> Sequence[str]:
    """Return what may stand in the place of a template's variable; raise :class:`RpcError` if it is not ours."""
    if ref.get("uri") != TEMPLATE["uriTemplate"]:
        raise RpcError(INVALID_PARAMS, f"No such resource template: {ref.get('uri')!r}")
    return list(house.gateway.pool.members)
