"""All registered upstream MCP servers at work, as the registry says they are now; and what each path under /mcp serves.

Owns the nursery in which every session lives. An entry that changes is ended and begun anew, the others are left alone.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial

import trio
from attrs import define, field

from trillm.mcp import names
from trillm.mcp.groups import Groups, open_groups
from trillm.mcp.links import Links
from trillm.mcp.relay import Sampler
from trillm.mcp.session import (
    PROMPTS_CHANGED,
    RESOURCE_UPDATED,
    RESOURCES_CHANGED,
    TOOLS_CHANGED,
    Changes,
    Params,
)
from trillm.mcp.upstream import Signer, no_signer
from trillm.registry.mcpentries import McpServer


@define(eq=False)
class Upstreams:
    """Made by :func:`open_upstreams`.

    Args:
        nursery: in which sessions live.
        groups: guards processes.
        sampler: answers upstreams that ask for a model and may.
        signer: returns what signs HTTP requests, after a login.
        links: those that are enabled, by name, in the registry's order.
        changes: of all, under public names.
    """

    nursery: trio.Nursery
    groups: Groups
    sampler: Sampler | None
    signer: Signer
    _hearing: ExitStack
    links: dict[str, Links] = field(factory=dict, init=False)
    changes: Changes = field(factory=Changes, init=False)
    #: Of each there is or was: who listens keeps listening when an entry changes.
    _each: dict[str, Changes] = field(factory=dict, init=False)

    def follow(self, servers: Mapping[str, McpServer]) -> None:
        """Serve exactly these. Waits for nothing: what is no longer served ends by itself."""
        before = {name: links.server for name, links in self.links.items()}
        enabled = {name: server for name, server in servers.items() if server.enabled}
        different = {name for name in {*before, *enabled} if before.get(name) != enabled.get(name)}
        for name in different & before.keys():
            self.links.pop(name).end()
        kept = self.links
        self.links = {name: kept.get(name) or self._begin(server) for name, server in enabled.items()}
        for name in different:
            for method in (TOOLS_CHANGED, PROMPTS_CHANGED, RESOURCES_CHANGED):
                self.changes_of(name).publish(method)

    def changes_of(self, name: str) -> Changes:
        """Return what is told of one server's changes, under its own names."""
        if name not in self._each:
            self._each[name] = changes = Changes()
            self._hearing.enter_context(changes.heard_by(partial(self._changed, name)))
        return self._each[name]

    def close(self) -> None:
        """Say that no more changes will be told."""
        for changes in (self.changes, *self._each.values()):
            changes.close()

    def _begin(self, server: McpServer) -> Links:
        return Links(server, self.nursery, self.groups, self.changes_of(server.name), self.sampler, self.signer)

    def _changed(self, name: str, method: str, params: Params) -> None:
        if not method:
            return
        self.changes.publish(method, params)
        if method == RESOURCE_UPDATED:
            # Whoever subscribed by the longer name knows it by that.
            self.changes.publish(method, {**params, "uri": names.explicit(name, str(params.get("uri")))})


@asynccontextmanager
async def open_upstreams(sampler: Sampler | None = None, signer: Signer = no_signer) -> AsyncIterator[Upstreams]:
    """Have upstreams for the time of the block; at its end every session has ended and every process is gone."""
    with open_groups() as groups, ExitStack() as hearing:
        async with trio.open_nursery() as nursery:
            yield Upstreams(nursery, groups, sampler, signer, hearing)
            nursery.cancel_scope.cancel()


@contextmanager
def heard(changes: Changes, listener: Callable[[str, Params], None]) -> Iterator[None]:
    """Call ``listener`` with every change but the last word."""
    with changes.heard_by(lambda method, params: listener(method, params) if method else None):
        yield
