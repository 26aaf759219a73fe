"""What trillm itself is to MCP clients: tools, resources, prompts and completion over its models and servers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import define, field

from trillm import __version__
from trillm.hub import Hub, WhenFull
from trillm.mcp import prompts, resources, tools
from trillm.mcp.errors import method_not_found
from trillm.mcp.house import House
from trillm.mcp.session import (
    PROMPTS_CHANGED,
    RESOURCE_UPDATED,
    RESOURCES_CHANGED,
    Changes,
    Params,
    Request,
    Session,
)
from trillm.mcp.subscriptions import listen
from trillm.pool.events import BackendStateChanged, ModelsChanged
from trillm.registry.registry import RegistryLoaded

SERVER_INFO = {"name": "trillm", "title": "trillm", "version": __version__}
CAPABILITIES: Params = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "prompts": {"listChanged": True},
    "completions": {},
    "logging": {},
}


async def _take_note(_house: House, _request: Request) -> Params:
    """Answer what the transport has done."""
    return {}


METHODS: Mapping[str, Callable[[House, Request], Awaitable[Params]]] = {
    "tools/list": tools.list_tools,
    "tools/call": tools.call_tool,
    "resources/list": resources.list_resources,
    "resources/templates/list": resources.list_templates,
    "resources/read": resources.read_resource,
    "resources/subscribe": resources.subscribe,
    "resources/unsubscribe": resources.subscribe,
    "prompts/list": prompts.list_prompts,
    "prompts/get": prompts.get_prompt,
    "completion/complete": prompts.complete,
    "logging/setLevel": _take_note,
}


@define(eq=False)
class Own:
    """See :class:`trillm.mcp.session.View`.

    Args:
        house: what it shows and works on.
        hub: tells of changes.
    """

    house: House
    hub: Hub
    changes: Changes = field(factory=Changes, init=False)
    _servers: frozenset[str] = field(default=frozenset(), init=False)
    _prompts: Any = field(default=None, init=False)

    def watch(self) -> None:
        """Tell of changes from now on."""
        self._servers, self._prompts = frozenset(self.house.gateway.pool.members), prompts.prompts_of(self.house)
        # Coalesced: clients are told that something is new, not what.
        self.hub.subscribe(self._models_changed, ModelsChanged, when_full=WhenFull.COALESCE, size=1)
        self.hub.subscribe(self._loaded, RegistryLoaded, when_full=WhenFull.COALESCE, size=1)
        self.hub.subscribe(self._state_changed, BackendStateChanged)

    async def describe(self, _session: Session) -> Params:
        """Return what trillm is and can do."""
        return {"capabilities": CAPABILITIES, "serverInfo": SERVER_INFO}

    async def handle(self, request: Request) -> Params:
        """Answer a request."""
        if request.method == "subscriptions/listen":
            return await listen(request, self.changes)
        method = METHODS.get(request.method)
        if method is None:
            raise method_not_found(request.method)
        return await method(self.house, request)

    async def notified(self, session: Session, method: str, params: Params) -> None:
        """Take note of nothing: no tool of ours asks a client back."""

    def input_schema(self, _session: Session, _tool: str) -> Params | None:
        """No tool of ours has arguments in headers."""
        return None

    def _models_changed(self, _event: ModelsChanged) -> None:
        self._updated(resources.MODELS)
        self._look_for_servers()

    def _state_changed(self, event: BackendStateChanged) -> None:
        self._updated(resources.SERVERS, resources.server_uri(event.server), resources.MODELS)
        self._look_for_servers()

    def _loaded(self, _event: RegistryLoaded) -> None:
        self._look_for_servers()
        before, self._prompts = self._prompts, prompts.prompts_of(self.house)
        if before != self._prompts:
            self.changes.publish(PROMPTS_CHANGED)

    def _look_for_servers(self) -> None:
        before, self._servers = self._servers, frozenset(self.house.gateway.pool.members)
        if before != self._servers:
            self.changes.publish(RESOURCES_CHANGED)
            self._updated(resources.SERVERS)

    def _updated(self, *uris: str) -> None:
        for uri in uris:
            self.changes.publish(RESOURCE_UPDATED, {"uri": uri})
