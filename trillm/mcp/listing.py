"""What an upstream lists: asked for whole, bounded, and kept for the times when it does not answer.

Lists come from strangers: pages that never end, items that are no objects and schemas of megabytes are cut off here.
Schemas are passed on, never followed: nothing here fetches a ``$ref``.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec
import trio
from attrs import define, evolve, field, frozen

from trillm.mcp.errors import RpcError
from trillm.mcp.session import Params
from trillm.mcp.upstream import Upstream

log = logging.getLogger(__name__)

#: Method to the name of the list in its result, and to what identifies an item.
KINDS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
#: A session that is not open is not opened for a list that is no older.
KEEP_S = 300.0
MOST_PAGES = 100
MOST_MENTIONED = 10_000
MOST_ITEMS = 10_000
MOST_ITEM_BYTES = 256 * 1024

#: Asks for one page.
Ask: TypeAlias = Callable[[Params], Awaitable[Params]]


@frozen
class Listing:
    """A whole list.

    Args:
        items: as they came.
        ttl_ms: how long it may be kept, as the upstream says, or None.
        at: when it was asked for, on Trio's clock.
        keys: what identifies the items.
    """

    items: tuple[Params, ...] = ()
    ttl_ms: float | None = field(default=None, eq=False)
    at: float = field(default=0, eq=False)
    keys: frozenset[str] = field(default=frozenset(), eq=False, repr=False)


@define(eq=False)
class Lists:
    """The lists of one upstream as they were last seen.

    Args:
        server: its name.
        schemas: input schemas of its tools, by name.
        missed: what was asked for and did not come in time.
        mentioned: URIs of resources that answers linked to; the newest.
    """

    server: str
    schemas: dict[str, Params] = field(factory=dict, init=False)
    missed: set[str] = field(factory=set, init=False)
    mentioned: dict[str, None] = field(factory=dict, init=False, repr=False)
    _known: dict[str, Listing] = field(factory=dict, init=False)

    @property
    def wanted(self) -> set[str]:
        """What somebody has asked for, whether it came or not."""
        return {*self.missed, *self._known}

    def known(self, method: str) -> Listing:
        """Return a list as it was last seen, empty if it never was."""
        return self._known.get(method, Listing())

    def fresh(self, method: str) -> Listing | None:
        """Return a list that is good enough for not starting a session for its sake, or None."""
        known = self._known.get(method)
        return known if known is not None and trio.current_time() - known.at < KEEP_S else None

    def stale(self, methods: Iterable[str]) -> None:
        """Take in that lists have changed; as they were, they are still better than nothing."""
        for method in methods:
            if method in self._known:
                self._known[method] = evolve(self._known[method], at=-math.inf)

    def mention(self, result: Params) -> None:
        """Keep in mind the resources that a tool's result links to: they may be listed nowhere."""
        for block in result.get("content") or ():
            uri = _linked(block)
            if uri is not None:
                self.mentioned.pop(uri, None)
                self.mentioned[uri] = None
        while len(self.mentioned) > MOST_MENTIONED:
            del self.mentioned[next(iter(self.mentioned))]

    async def refresh(self, upstream: Upstream) -> list[str]:
        """Ask a new session for what is wanted, and return what is different."""
        different = []
        for method in self.wanted:
            before = self._known.get(method)
            try:
                if await self.fetch(method, partial(upstream.request, method), {}) != before:
                    different.append(method)
            except RpcError as error:
                log.info("mcp list refused server=%s method=%s reason=%r", self.server, method, str(error))
        self.missed.clear()
        return different

    async def fetch(self, method: str, ask: Ask, params: Params) -> Listing:
        """Return a whole list, all pages of it, and keep it.

        Args:
            method: one of ``KINDS``.
            ask: asks for one page.
            params: of the client's request; a cursor in them is not the upstream's.

        Raises:
            RpcError: the upstream's.
        """
        found = self._known[method] = await self._all_pages(method, ask, params)
        if method == "tools/list":
            self.schemas.clear()
            self.schemas.update({tool["name"]: tool["inputSchema"] for tool in found.items if "inputSchema" in tool})
            self.mentioned |= dict.fromkeys(filter(None, map(_interface, found.items)))
        return found

    async def _all_pages(self, method: str, ask: Ask, params: Params) -> Listing:
        kind, key = KINDS[method]
        items: list[Params] = []
        cursors: list[Any] = []
        ttl: float | None = None
        params = {name: value for name, value in params.items() if name != "cursor"}
        for _ in range(MOST_PAGES):
            page = await ask({**params, "cursor": cursors[-1]} if cursors else params)
            items += sound(page.get(kind), key, server=self.server)
            ttl = _least(ttl, page.get("ttlMs"))
            cursor = page.get("nextCursor")
            if not cursor or cursor in cursors:
                break
            cursors.append(cursor)
        if len(items) > MOST_ITEMS:
            log.warning("mcp list cut server=%s kind=%s items=%d", self.server, kind, len(items))
        kept = tuple(items[:MOST_ITEMS])
        return Listing(kept, ttl, trio.current_time(), frozenset(item[key] for item in kept))


def _interface(tool: Params) -> str | None:
    """Return the resource that shows a tool's results (MCP Apps, ``ui://``), which need not be listed."""
    match tool.get("_meta"):
        case {"ui": {"resourceUri": str(uri)}} | {"ui/resourceUri": str(uri)}:
            return uri
    return None


def _linked(block: Any) -> str | None:
    match block:
        case {"type": "resource_link", "uri": str(uri)} | {"type": "resource", "resource": {"uri": str(uri)}}:
            return uri
    return None


def sound(items: Any, key: str, *, server: str) -> list[Params]:
    """Return the items that are objects with a ``key`` and of a bearable size."""
    if not isinstance(items, Sequence) or isinstance(items, str):
        return []
    return [
        item for item in items if isinstance(item, dict) and isinstance(item.get(key), str) and _small(item, server)
    ]


def _small(item: Params, server: str) -> bool:
    size = len(msgspec.json.encode(item))
    if size > MOST_ITEM_BYTES:
        name = str(item.get("name"))[:100]
        log.warning("mcp list item left out, too large server=%s name=%r bytes=%d", server, name, size)
    return size <= MOST_ITEM_BYTES


def _least(one: float | None, other: Any) -> float | None:
    if isinstance(other, bool) or not isinstance(other, int | float):
        return one
    return max(0, other if one is None else min(one, other))
