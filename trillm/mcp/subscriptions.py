"""Who is told of changes, and how: on the connection in the old era, on a stream asked for in the new one."""

from collections.abc import Mapping
from typing import Any

import trio
from attrs import define, field

from trillm.mcp.session import (
    CLOSED,
    META,
    PROMPTS_CHANGED,
    RESOURCE_UPDATED,
    RESOURCES_CHANGED,
    TOOLS_CHANGED,
    Changes,
    Params,
    Request,
    Session,
)

#: What a client of the new era asks for, and what it then is told.
_FLAGS = {
    "toolsListChanged": TOOLS_CHANGED,
    "promptsListChanged": PROMPTS_CHANGED,
    "resourcesListChanged": RESOURCES_CHANGED,
}


def attach(session: Session, changes: Changes) -> None:
    """Tell a session of the old era what changes, until it ends: lists always, resources when subscribed to."""

    def heard(method: str, params: Params) -> None:
        if method in _FLAGS.values() or (method == RESOURCE_UPDATED and params.get("uri") in session.subscribed):
            session.tell_soon(method, params)

    changes.hear_until_end(session, heard)


async def listen(request: Request, changes: Changes) -> Params:
    """Answer ``subscriptions/listen``: what was asked for, as it happens, until the client leaves or we stop."""
    honoured = _honoured(request.params.get("notifications"))
    methods = {method for flag, method in _FLAGS.items() if honoured.get(flag)}
    uris = set(honoured.get("resourceSubscriptions", ()))
    meta = {f"{META}subscriptionId": request.id}
    news = _News()

    def heard(method: str, params: Params) -> None:
        if method in methods or method == CLOSED or (method == RESOURCE_UPDATED and params.get("uri") in uris):
            news.put(method, params)

    with changes.heard_by(heard):
        acknowledged = {"notifications": honoured, "_meta": meta}
        await request.notify("notifications/subscriptions/acknowledged", acknowledged)
        while not changes.closed:
            method, params = await news.get()
            if method != CLOSED:
                await request.notify(method, {**params, "_meta": {**params.get("_meta", {}), **meta}})
    return {"_meta": meta}


def _honoured(asked: Any) -> Params:
    """Return what of the client's wishes will be fulfilled: all that is known here."""
    if not isinstance(asked, Mapping):
        return {}
    uris = [uri for uri in asked.get("resourceSubscriptions") or () if isinstance(uri, str)]
    flags: Params = {flag: True for flag in _FLAGS if asked.get(flag) is True}
    return flags | ({"resourceSubscriptions": uris} if uris else {})


@define(eq=False)
class _News:
    """What is still to be told. Two of the same change become one, so it is bounded by what was asked for."""

    _waiting: dict[tuple[str, str], Params] = field(factory=dict, init=False)
    _came: trio.Event = field(factory=trio.Event, init=False)

    def put(self, method: str, params: Params) -> None:
        self._waiting[method, str(params.get("uri", ""))] = params
        self._came.set()

    async def get(self) -> tuple[str, Params]:
        while not self._waiting:
            self._came = trio.Event()
            await self._came.wait()
        key = next(iter(self._waiting))
        return key[0], self._waiting.pop(key)
