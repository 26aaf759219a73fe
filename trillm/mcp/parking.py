"""A client of the new era before an upstream of the old: what that asks in the middle of a call becomes an answer.

The old era's server asks by a request of its own and waits; the new era's client is answered ``input_required`` and
sends its call again with what was asked for (SEP-2322). Between the two the upstream's call stays *parked* here, with
the session it runs in, known by a handle that cannot be guessed, belongs to one caller, method and name, and expires.
A session serves one call at a time, since an upstream does not say which call it asks for; calls at the same time have
sessions of their own.
"""

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import trio
from attrs import define, field

from trillm.mcp.errors import INTERNAL_ERROR, INVALID_PARAMS, TOO_MANY_REQUESTS, RpcError, method_not_found
from trillm.mcp.link import Link
from trillm.mcp.messages import Id
from trillm.mcp.relay import PROGRESS, Errand, Sampler, answered_here
from trillm.mcp.session import CAPABILITY, META, Params, Request
from trillm.mcp.upstream import Client
from trillm.registry.mcpentries import McpServer

log = logging.getLogger(__name__)

#: Seconds a parked call waits for its client to come back.
PARKED_S = 600.0
#: Sessions with one upstream for such calls; each may be a process.
MOST_SESSIONS = 32

#: To whom a handle belongs.
Owner: TypeAlias = tuple[str | None, str, str | None]


@define(eq=False)
class Seat:
    """A session with the upstream that serves one call at a time.

    Args:
        link: carries it.
        kind: who may use it: the caller, and what the upstream may ask.
        call: that runs now.
    """

    kind: object
    link: Link = field(init=False)
    call: "Call | None" = None


@define(eq=False)
class Call:
    """A call at the upstream.

    Args:
        errand: of the client's request that waits for it now, or was the last to.
        scope: of the task that waits for the upstream.
        asks: what the upstream waits for, by a name of ours: the request, and where its answer goes.
        outcome: what it has answered.
    """

    errand: Errand | None
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    asks: dict[str, tuple[Params, "Answer"]] = field(factory=dict)
    outcome: Params | RpcError | None = None
    _moved: trio.Event = field(factory=trio.Event)

    def moved(self) -> None:
        """Say that there is an outcome or something to ask."""
        self._moved.set()

    async def stand(self) -> None:
        """Wait until there is an outcome or something to ask."""
        while self.outcome is None and not self.asks:
            self._moved = trio.Event()
            await self._moved.wait()


@define(eq=False)
class Answer:
    """What a client answers to one ask."""

    given: trio.Event = field(factory=trio.Event)
    value: Params = field(factory=dict)


@define(eq=False)
class Parking:
    """The calls in the middle of which something is asked, at one upstream.

    Args:
        server: the upstream.
        nursery: in which calls run.
        sampler: answers for the client when the server's entry names a model.
        make_link: makes a link for a client.
    """

    server: McpServer
    nursery: trio.Nursery
    sampler: Sampler | None
    make_link: Callable[[Client], Link]
    _free: list[Seat] = field(factory=list, init=False)
    _seats: set[Seat] = field(factory=set, init=False)
    _parked: dict[str, tuple[Owner, Call]] = field(factory=dict, init=False)

    @property
    def calls(self) -> int:
        """How many calls run or are parked."""
        return sum(seat.call is not None for seat in self._seats)

    def wants(self, request: Request) -> bool:
        """Tell whether a request may be asked something back, or wants log messages, so that it needs a session."""
        asked = bool(set(CAPABILITY.values()) & set(request.session.capabilities))
        return asked or f"{META}logLevel" in request.meta or "requestState" in request.params

    async def put(self, errand: Errand, method: str, params: Params) -> Params:
        """Put a call to the upstream, or go on with a parked one; return its result, or ``input_required``.

        Cancelled, the call is taken back; not, however, once it is parked.

        Raises:
            RpcError: the upstream's; or the handle is none of this caller's.
        """
        params = dict(params)
        state, responses = params.pop("requestState", None), params.pop("inputResponses", None)
        owner: Owner = (errand.request.session.caller.key, method, params.get("name") or params.get("uri"))
        call = self._begin(errand, method, params) if state is None else self._resume(errand, state, owner, responses)
        try:
            await call.stand()
        except trio.Cancelled:
            call.scope.cancel()
            raise
        if call.outcome is not None:
            await errand.outbox.flush()
            if isinstance(call.outcome, RpcError):
                raise call.outcome
            return call.outcome
        return self._park(call, owner)

    def end(self) -> None:
        """End every session."""
        for seat in self._seats:
            seat.link.end()

    # ── parking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _park(self, call: Call, owner: Owner) -> Params:
        handle, call.errand = secrets.token_urlsafe(32), None
        self._parked[handle] = (owner, call)
        self.nursery.start_soon(self._expire, handle)
        asked = {name: ask for name, (ask, _) in call.asks.items()}
        return {"resultType": "input_required", "inputRequests": asked, "requestState": handle}

    async def _expire(self, handle: str) -> None:
        await trio.sleep(PARKED_S)
        if (parked := self._parked.pop(handle, None)) is not None:
            log.info("mcp parked call expired server=%s method=%s", self.server.name, parked[0][1])
            parked[1].scope.cancel()

    def _resume(self, errand: Errand, handle: object, owner: Owner, responses: object) -> Call:
        known = self._parked.get(handle) if isinstance(handle, str) else None
        if known is None or known[0] != owner:
            raise RpcError(INVALID_PARAMS, "This requestState is unknown, has expired, or belongs to another call.")
        del self._parked[str(handle)]
        call = known[1]
        call.errand = errand
        answers = responses if isinstance(responses, dict) else {}
        for name in set(answers) & set(call.asks):
            _, answer = call.asks.pop(name)
            answer.value = answers[name] if isinstance(answers[name], dict) else {}
            answer.given.set()
        return call

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, errand: Errand, method: str, params: Params) -> Call:
        seat = self._take_seat(errand.request)
        seat.call = Call(errand)
        self.nursery.start_soon(self._run, seat, seat.call, method, params)
        return seat.call

    async def _run(self, seat: Seat, call: Call, method: str, params: Params) -> None:
        outcome: Params | RpcError = RpcError(
            INTERNAL_ERROR, f"The call at MCP server {self.server.name!r} was given up."
        )
        try:
            with call.scope:
                await self._set_level(seat.link, call)
                outcome = await seat.link.request(method, params, on_progress=lambda told: _hear(seat, PROGRESS, told))
        except RpcError as error:
            outcome = error
        finally:
            call.outcome = outcome
            call.asks.clear()
            call.moved()
            seat.call = None
            self._free.append(seat)

    async def _set_level(self, link: Link, call: Call) -> None:
        """Have an upstream of the old era log what this call of the new one wants."""
        level = call.errand.request.meta.get(f"{META}logLevel") if call.errand else None
        if level is not None and "logging" in (await link.session()).capabilities:
            await link.request("logging/setLevel", {"level": level})

    def _take_seat(self, request: Request) -> Seat:
        session = request.session
        declared = {name: session.capabilities[name] for name in CAPABILITY.values() if name in session.capabilities}
        kind = (session.caller.key, repr(sorted(declared.items())))
        for seat in self._free:
            if seat.kind == kind:
                self._free.remove(seat)
                return seat
        self._make_room()
        return self._new_seat(kind, declared)

    def _make_room(self) -> None:
        if len(self._seats) < MOST_SESSIONS:
            return
        if not self._free:
            raise RpcError(
                TOO_MANY_REQUESTS, f"MCP server {self.server.name!r} has {MOST_SESSIONS} such calls already."
            )
        oldest = self._free.pop(0)
        oldest.link.end()
        self._seats.remove(oldest)

    def _new_seat(self, kind: object, declared: Params) -> Seat:
        seat = Seat(kind)

        async def answer(_id: Id, method: str, params: Params) -> Params:
            if (own := await answered_here(self.server, self.sampler, method, params)) is not None:
                return own
            if seat.call is None or method not in CAPABILITY:
                raise method_not_found(method)
            return await _ask(seat.call, method, params)

        declared = {"sampling": {}, **declared} if self.server.sampling else declared
        seat.link = self.make_link(Client(declared, answer=answer, hear=lambda method, told: _hear(seat, method, told)))
        self._seats.add(seat)
        return seat


async def _ask(call: Call, method: str, params: Params) -> Params:
    with _asked(call, {"method": method, "params": params}) as answer:
        await answer.given.wait()
    return answer.value


@contextmanager
def _asked(call: Call, ask: Params) -> Iterator[Answer]:
    """Have something asked until it is answered, or the upstream takes it back."""
    name, answer = secrets.token_hex(4), Answer()
    call.asks[name] = (ask, answer)
    call.moved()
    try:
        yield answer
    finally:
        call.asks.pop(name, None)


def _hear(seat: Seat, method: str, params: Params) -> None:
    errand = seat.call.errand if seat.call is not None else None
    if errand is None:
        return
    if method == PROGRESS and errand.on_progress is not None:
        errand.on_progress(params)
    elif method.startswith("notifications/message"):
        errand.tell(method, params)
