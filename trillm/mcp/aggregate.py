"""Everything at one address: trillm's own tools, resources and prompts, and those of all upstreams under stable names.

A list is put together from what each upstream answers in its own time; one that is down or slow is shown as it was last
seen, and named in ``_meta``. Resources keep their URIs; of two upstreams with the same URI the one that stands first in
the registry has it, the other's is offered as ``mcp://{server}/{uri}``, a form that is understood for any resource.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import trio
from attrs import define

from trillm.mcp import names
from trillm.mcp.errors import INVALID_PARAMS, RpcError
from trillm.mcp.links import Links
from trillm.mcp.listing import KINDS, Listing
from trillm.mcp.paging import page
from trillm.mcp.search import CALL, SEARCH, Search, called
from trillm.mcp.session import Changes, Params, Request, Session, View
from trillm.mcp.single import check_server, check_tool, may_call, text, watched
from trillm.mcp.subscriptions import listen
from trillm.mcp.upstreams import Upstreams, heard

log = logging.getLogger(__name__)

#: Items on one page; a gateway's lists are long, and each page asks every upstream again.
PAGE = 500
#: Which upstreams could not be asked, and why: their part of the list is as it was last seen.
UNAVAILABLE = "trillm/unavailable"
MOST_INSTRUCTIONS_CHARS = 2000


@define(eq=False)
class Aggregate:
    """See :class:`trillm.mcp.session.View`. Made by :func:`open_aggregate`.

    Args:
        upstreams: all there are.
        own: what trillm itself offers, under names without a server.
        search: what stands in for a long list of tools.
    """

    upstreams: Upstreams
    own: View
    search: Search | None = None

    @property
    def changes(self) -> Changes:
        """What all of them tell of."""
        return self.upstreams.changes

    async def describe(self, session: Session) -> Params:
        """Return trillm's own description, with what upstreams that are there say about their use."""
        told = await self.own.describe(session)
        capabilities = dict(told.get("capabilities") or {})
        for feature in ("tools", "prompts", "resources"):
            capabilities[feature] = {"listChanged": True, **capabilities.get(feature, {})}
        capabilities["resources"]["subscribe"] = True
        capabilities |= {"completions": {}, "logging": {}}
        said = [told.get("instructions", ""), *map(_instructions, self._permitted_to(session))]
        instructions = "\n\n".join(filter(None, said))
        return {**told, "capabilities": capabilities} | ({"instructions": instructions} if instructions else {})

    async def handle(self, request: Request) -> Params:
        """Answer a request, by the upstream it is for."""
        match request.method:
            case "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list":
                return await self._list(request)
            case "tools/call" | "prompts/get":
                return await self._named(request)
            case "resources/read" | "resources/subscribe" | "resources/unsubscribe":
                return await self._resource(request)
            case "completion/complete":
                return await self._complete(request)
            case "logging/setLevel":
                for links in self._permitted_to(request.session):
                    await links.set_level(request.session)
            case "subscriptions/listen":
                async with self._watching(request):
                    return await listen(request, self.changes)
        return await self.own.handle(request)

    async def notified(self, session: Session, method: str, params: Params) -> None:
        """Pass a client's notification on to all that have a session for it."""
        await self.own.notified(session, method, params)
        for links in self._permitted_to(session):
            await links.notified(session, method, params)

    def input_schema(self, session: Session, tool: str) -> Params | None:
        """Return a tool's schema as it was last seen."""
        server, local = names.split(tool) or ("", "")
        links = self.upstreams.links.get(server)
        return links.lists.schemas.get(local) if links else self.own.input_schema(session, tool)

    def _permitted_to(self, session: Session) -> list[Links]:
        allow = session.caller.grants.allow_server
        return [links for name, links in self.upstreams.links.items() if allow(name)]

    # ── lists ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _list(self, request: Request) -> Params:
        kind, _ = KINDS[request.method]
        own = await self._own_items(request)
        found, unavailable = await self.listings(request)
        items = [*own, *self._shown(request, list(_merged(request, found)))]
        result = page(kind, items, request.params, size=PAGE)
        ttls = [listing.ttl_ms for _, listing in found if listing.ttl_ms is not None]
        if ttls and request.session.is_modern:
            result |= {"ttlMs": min(ttls), "cacheScope": "private"}
        return result | ({"_meta": {UNAVAILABLE: unavailable}} if unavailable else {})

    def _shown(self, request: Request, items: list[Params]) -> list[Params]:
        if request.method == "tools/list" and self.search is not None and self.search.replaces(len(items)):
            return self.search.tools
        return items

    async def listings(self, request: Request) -> tuple[list[tuple[Links, Listing]], dict[str, str]]:
        """Return each permitted upstream's list, in the registry's order, and why some are as they were last seen."""
        permitted = self._permitted_to(request.session)
        found: dict[str, Listing] = {}
        unavailable: dict[str, str] = {}

        async def ask(links: Links) -> None:
            name = links.server.name
            try:
                found[name] = await links.whole(request)
            except RpcError as error:
                found[name], unavailable[name] = links.lists.known(request.method), error.message

        async with trio.open_nursery() as nursery:
            for links in permitted:
                nursery.start_soon(ask, links)
        return [(links, found[links.server.name]) for links in permitted], unavailable

    async def _own_items(self, request: Request) -> list[Params]:
        kind, _ = KINDS[request.method]
        items: list[Params] = []
        params = {name: value for name, value in request.params.items() if name != "cursor"}
        while True:
            answer = await self.own.handle(_with(request, params))
            items += answer.get(kind, [])
            if not answer.get("nextCursor"):
                return items
            params = {**params, "cursor": answer["nextCursor"]}

    # ── what has a name ─────────────────────────────────────────────────────────────────────────────────────────

    async def _named(self, request: Request) -> Params:
        public = text(request.params, "name")
        if request.method == "tools/call" and self.search is not None and self.search.settings.above is not None:
            if public == SEARCH:
                found_tools, _ = await self.listings(as_list(request, "tools/list"))
                return await self.search.find(request, list(_merged(as_list(request, "tools/list"), found_tools)))
            if public == CALL:
                return await self._named(called(request))
        found = self._find(public)
        if found is None:
            return await self.own.handle(request)
        links, local = found
        check_server(links, request)
        if request.method == "tools/call":
            check_tool(links, request, local)
        return await links.put(request, {**request.params, "name": local})

    def _find(self, public: str) -> tuple[Links, str] | None:
        """Return whose a public name is; None when it is trillm's own, or nobody's."""
        server, local = names.split(public) or ("", "")
        links = self.upstreams.links.get(server)
        return (links, local) if links else None

    # ── resources ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _resource(self, request: Request) -> Params:
        asked = text(request.params, "uri")
        found = await self._owner(request, asked)
        if found is None:
            return await self.own.handle(request)
        links, uri = found
        match request.method:
            case "resources/subscribe":
                await links.subscribe(request.session, uri, asked)
                return {}
            case "resources/unsubscribe":
                await links.unsubscribe(request.session, uri)
                return {}
        return await links.put(request, {**request.params, "uri": uri})

    async def _owner(self, request: Request, uri: str) -> tuple[Links, str] | None:
        """Return whose a resource is, and its URI there; None when it is trillm's own, or nobody's."""
        if (named := names.split_uri(uri)) is not None and named[0] in self.upstreams.links:
            links = self.upstreams.links[named[0]]
            check_server(links, request)
            return links, named[1]
        if uri.startswith("trillm:"):
            return None
        owner = self._known_owner(request, uri)
        if owner is None:
            # Perhaps nobody has asked for the lists yet.
            for method in ("resources/list", "resources/templates/list"):
                await self.listings(as_list(request, method))
            owner = self._known_owner(request, uri) or self._only_one(request)
        return (owner, uri) if owner else None

    def _known_owner(self, request: Request, uri: str) -> Links | None:
        permitted = self._permitted_to(request.session)
        for links in permitted:
            if uri in links.lists.known("resources/list").keys or uri in links.lists.mentioned:
                return links
        for links in permitted:
            templates = links.lists.known("resources/templates/list").keys
            if uri in templates or any(names.fits(template, uri) for template in templates):
                return links
        return None

    def _only_one(self, request: Request) -> Links | None:
        """Return the only upstream that has resources at all: it may have some that it does not list."""
        having = [links for links in self._permitted_to(request.session) if links.lists.known("resources/list").items]
        return having[0] if len(having) == 1 else None

    @asynccontextmanager
    async def _watching(self, request: Request) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for uri in watched(request):
                if (found := await self._owner(request, uri)) is not None:
                    await stack.enter_async_context(found[0].watching((found[1],)))
            yield

    async def _complete(self, request: Request) -> Params:
        reference = request.params.get("ref")
        if not isinstance(reference, dict):
            raise RpcError(INVALID_PARAMS, "'ref' must be an object.")
        if "uri" in reference:
            key, found = "uri", await self._owner(request, text(reference, "uri"))
        else:
            key, found = "name", self._find(text(reference, "name"))
        if found is None:
            return await self.own.handle(request)
        check_server(found[0], request)
        return await found[0].put(request, {**request.params, "ref": {**reference, key: found[1]}})


@contextmanager
def open_aggregate(upstreams: Upstreams, own: View, search: Search | None = None) -> Iterator[Aggregate]:
    """Have the view of everything for the time of the block."""
    with heard(own.changes, upstreams.changes.publish):
        yield Aggregate(upstreams, own, search)


def _merged(request: Request, found: list[tuple[Links, Listing]]) -> Iterator[Params]:
    """Yield what upstreams list, under public names."""
    _, key = KINDS[request.method]
    taken: set[str] = set()
    for links, listing in found:
        server = links.server.name
        for item in listing.items:
            if request.method == "tools/list" and not may_call(links, request, item[key]):
                continue
            if key == "name":
                yield {**item, key: names.public(server, item[key])}
            elif item[key] in taken:
                yield {**item, key: names.explicit(server, item[key])}
            else:
                taken.add(item[key])
                yield item


def _instructions(links: Links) -> str:
    current = links.shared.current
    said = current.described.get("instructions") if current else None
    return f"{links.server.name}: {said[:MOST_INSTRUCTIONS_CHARS]}" if isinstance(said, str) and said else ""


def as_list(request: Request, method: str) -> Request:
    """Return a request for a list, on behalf of who made another."""
    meta = {name: value for name, value in request.meta.items() if name != "progressToken"}
    return Request(request.id, method, {"_meta": meta} if meta else {}, request.session)


def _with(request: Request, params: Params) -> Request:
    return Request(request.id, request.method, params, request.session, request.notify, request.ask)
