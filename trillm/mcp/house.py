"""What trillm's own tools, resources and prompts work on, and what of it a caller is shown."""

from typing import Any

from attrs import frozen

from trillm.gateway import status
from trillm.gateway.gateway import Gateway
from trillm.mcp.session import Params, Request
from trillm.registry.registry import Registry


@frozen
class ToolSearch:
    """When tools are found rather than listed.

    Args:
        above: more tools of upstreams than this are not listed; None lists any number.
        model: ranks them; None ranks by common words.
    """

    above: int | None = None
    model: str | None = None


@frozen
class House:
    """The parts of a running trillm.

    Args:
        gateway: answers calls.
        registry: what is configured.
        search: when tools are found rather than listed.
        worker: which of several processes this is, from 1; 0: there is one.
    """

    gateway: Gateway
    registry: Registry
    search: ToolSearch = ToolSearch()
    worker: int = 0


def shown_servers(house: House, request: Request) -> dict[str, Params]:
    """Return how each server is, by name; where it is and what went wrong only for who may administer."""
    shown = {server["name"]: server for server in status.full(house.gateway, house.registry)["servers"]}
    if request.session.caller.is_admin:
        return shown
    hidden = ("url", "last_error")
    return {name: {k: v for k, v in server.items() if k not in hidden} for name, server in shown.items()}


def shown_models(house: House, request: Request) -> list[dict[str, Any]]:
    """Return the models that may be asked now, in OpenAI's shape."""
    models: list[dict[str, Any]] = status.model_list(house.gateway.pool, request.session.caller.grants)["data"]
    return models
