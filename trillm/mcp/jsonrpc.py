"""JSON-RPC 2.0 between two peers over a channel of messages, at the level of JSON objects. Knows nothing of MCP's eras.

Each request that comes is answered in a task of its own; what is over the cap is refused rather than kept waiting,
since the notification that cancels a request could not get in behind it. Notifications are handed on in order.
What is not JSON or no JSON-RPC is answered as JSON-RPC 2.0 §5.1 says, and the connection goes on.

Own code in the place of the SDK's dispatcher: that one has no cap, tells progress out of order, drops what is
malformed, and costs twice as much (docs/decisions/0010).
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeAlias

import trio
from attrs import define, field

from trillm.errors import TrillmError
from trillm.mcp.errors import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    TOO_MANY_REQUESTS,
    RpcError,
    rpc_error,
)
from trillm.mcp.messages import Id, Params, decode, encode, error_message, id_of, no_request

log = logging.getLogger(__name__)

OnRequest: TypeAlias = Callable[[Id, str, Params], Awaitable[Params]]
OnNotification: TypeAlias = Callable[[str, Params], None]

#: Requests of the other side that are answered at once.
MAX_IN_FLIGHT = 256
#: What telling the other side that a request is taken back may take.
COURTESY_S = 5.0


class Channel(Protocol):
    """Carries whole messages; closed by whoever opened it."""

    async def receive(self) -> str | bytes | None:
        """Wait for a message; None is the end."""

    async def send(self, message: bytes) -> None:
        """Send a whole message or none, however the caller is cancelled.

        Raises:
            trio.BrokenResourceError: the other side is gone or takes nothing.
        """


def nothing_to_tell(_method: str, _params: Params) -> None:
    """Drop a notification."""


async def nothing_to_answer(_id: Id, method: str, _params: Params) -> Params:
    """Refuse a request."""
    raise RpcError(-32601, f"Method not found: {method}")


@define(eq=False)
class _Pending:
    """A request of ours: who waits for its answer, and who wants to know how far it is."""

    answered: trio.Event
    on_progress: Callable[[Params], None] | None = None
    result: Params | RpcError | None = None


@define(eq=False)
class Peer:
    """One end of a connection.

    Args:
        channel: to the other side.
        on_request: answers a request of the other side; runs in its own task, cancelled when it is taken back.
        on_notification: takes a notification, in the order they came; must not wait.
        max_in_flight: requests of the other side at once.
        in_turn: methods after which nothing is read until they are answered.
        taken_back: what a request that was taken back is answered with; None is nothing, as the protocol has it.
        on_settled: called in the task of a request of the other side when there is no more to do for it.
    """

    channel: Channel
    on_request: OnRequest = nothing_to_answer
    on_notification: OnNotification = nothing_to_tell
    max_in_flight: int = MAX_IN_FLIGHT
    in_turn: frozenset[str] = frozenset()
    taken_back: RpcError | None = None
    on_settled: Callable[[], None] | None = None
    closed: bool = field(default=False, init=False)
    #: Requests of the other side that are being answered.
    running: dict[Id, trio.CancelScope] = field(factory=dict, init=False, repr=False)
    _pending: dict[Id, _Pending] = field(factory=dict, init=False, repr=False)
    _last_id: int = field(default=0, init=False)
    _nursery: trio.Nursery | None = field(default=None, init=False, repr=False)
    #: Answers that are not on their way yet.
    _owed: int = field(default=0, init=False)
    _finishing: trio.Event | None = field(default=None, init=False, repr=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until the channel ends; then cancel what is still being answered and fail what is still asked."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while (message := await self.channel.receive()) is not None:
                    await self._decode(message)
            except trio.BrokenResourceError:
                pass  # as good an end as any
            finally:
                self._close()
            nursery.cancel_scope.cancel()

    async def finish(self) -> None:
        """Take no more requests, and return when those that run have been answered."""
        self._finishing = trio.Event()
        if self._owed:
            await self._finishing.wait()

    async def request(
        self,
        method: str,
        params: Params | None = None,
        *,
        id: Id | None = None,  # noqa: A002 - the protocol's word
        on_progress: Callable[[Params], None] | None = None,
    ) -> Params:
        """Ask the other side and return its result. Cancelled, it takes the request back.

        Args:
            method: e.g. ``tools/call``.
            params: its parameters.
            id: to know the request by; None makes one up.
            on_progress: called with the parameters of each progress notification, in order, before the result is
                returned; the request then carries its own id as ``progressToken``.

        Raises:
            RpcError: what the other side answered instead, or ``CONNECTION_CLOSED``.
        """
        if id is None:
            self._last_id += 1
            id = self._last_id  # noqa: A001
        params = dict(params or {})
        if on_progress is not None:
            params["_meta"] = {**(params.get("_meta") or {}), "progressToken": id}
        pending = self._pending[id] = _Pending(trio.Event(), on_progress)
        try:
            await self._send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
            await pending.answered.wait()
        except trio.Cancelled:
            if method != "initialize":  # that must not be taken back
                with trio.move_on_after(COURTESY_S, shield=True):
                    await self.notify("notifications/cancelled", {"requestId": id, "reason": "cancelled"})
            raise
        finally:
            del self._pending[id]
        if isinstance(pending.result, RpcError):
            raise pending.result
        return pending.result or {}

    async def notify(self, method: str, params: Params | None = None) -> None:
        """Tell the other side. What cannot be sent any more is dropped: a notification promises nothing."""
        message: Params = {"jsonrpc": "2.0", "method": method}
        if params:
            message["params"] = params
        try:
            await self.channel.send(encode(message))
        except trio.BrokenResourceError:
            log.debug("notification dropped method=%s", method)

    async def _send(self, message: Params) -> None:
        if self.closed:
            raise _connection_closed()
        try:
            await self.channel.send(encode(message))
        except trio.BrokenResourceError as exc:
            raise _connection_closed() from exc

    def _close(self) -> None:
        self.closed = True
        self._nursery = None
        for pending in self._pending.values():
            self._settle(pending, _connection_closed())

    # ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────

    async def _decode(self, text: str | bytes) -> None:
        try:
            message = decode(text)
        except RpcError as error:
            return await self._refuse(None, error)
        return await self.take(message)

    async def take(self, message: Any) -> None:
        """Take a message that came, decoded; what has to be waited for goes on in a task of :meth:`run`."""
        match message:
            case {"jsonrpc": "2.0", "method": str(method), **rest}:
                params = rest.get("params", {})
                if "id" in rest:
                    return await self._take_request(rest["id"], method, params)
                if isinstance(params, dict):
                    self._take_notification(method, params)
            case {"jsonrpc": "2.0", "id": id} if ("result" in message) != ("error" in message):
                self._take_answer(id, message)
            case _:
                await self._refuse(id_of(message), no_request(message))
        return None

    async def _take_request(self, id: Any, method: str, params: Any) -> None:  # noqa: A002
        refused = self._why_refused(id, params)
        if refused is not None or self._nursery is None:
            await self._refuse(id_of({"id": id}), refused or _connection_closed())
            return self._settled()
        scope = self.running[id] = trio.CancelScope()
        self._owed += 1
        if method in self.in_turn:
            return await self._answer(id, method, params, scope)
        self._nursery.start_soon(self._answer, id, method, params, scope)
        return None

    def _why_refused(self, id: Any, params: Any) -> RpcError | None:  # noqa: A002
        if id_of({"id": id}) is None:
            return RpcError(INVALID_REQUEST, "A request's id is a string or a whole number.")
        if not isinstance(params, dict):
            return RpcError(INVALID_PARAMS, "params must be an object.")
        if id in self.running:
            return RpcError(INVALID_REQUEST, f"A request with the id {id!r} is still being answered.")
        if len(self.running) >= self.max_in_flight:
            return RpcError(TOO_MANY_REQUESTS, f"More than {self.max_in_flight} requests at once on one connection.")
        if self._finishing is not None:
            return RpcError(CONNECTION_CLOSED, "trillm is stopping.")
        return None

    async def _answer(self, id: Id, method: str, params: Params, scope: trio.CancelScope) -> None:  # noqa: A002
        """Answer one request; one that was taken back is not answered at all."""
        answer = b""
        try:
            try:
                with scope:
                    answer = await self._outcome(id, method, params)
            finally:
                # Before the answer leaves: the other side may use the id again as soon as it has that.
                del self.running[id]
            if not answer and self.taken_back is not None:
                answer = error_message(id, self.taken_back)
            if answer:
                await self.channel.send(answer)
        except trio.BrokenResourceError:
            log.debug("answer dropped method=%s", method)
        finally:
            self._owed -= 1
            if self._finishing is not None and not self._owed:
                self._finishing.set()
            self._settled()

    def _settled(self) -> None:
        if self.on_settled is not None:
            self.on_settled()

    async def _outcome(self, id: Id, method: str, params: Params) -> bytes:  # noqa: A002
        try:
            result = await self.on_request(id, method, params)
            return encode({"jsonrpc": "2.0", "id": id, "result": result})
        except RpcError as exc:
            error = exc
        except TrillmError as exc:
            error = rpc_error(exc)
        except Exception:
            log.exception("request broken method=%s", method)
            error = RpcError(INTERNAL_ERROR, "trillm failed; its log says why.")
        return error_message(id, error)

    async def _refuse(self, id: Id | None, error: RpcError) -> None:  # noqa: A002
        await self.channel.send(error_message(id, error))

    def _take_notification(self, method: str, params: Params) -> None:
        if method == "notifications/cancelled":
            id_ = params.get("requestId")
            if isinstance(id_, str | int) and (scope := self.running.get(id_)) is not None:
                scope.cancel()
        elif method == "notifications/progress":
            token = params.get("progressToken")
            pending = self._pending.get(token) if isinstance(token, str | int) else None
            if pending is not None and pending.on_progress is not None:
                return pending.on_progress(params)
        return self.on_notification(method, params)

    def _take_answer(self, id: Any, message: Params) -> None:  # noqa: A002
        pending = self._pending.get(id) if isinstance(id, str | int) else None
        if pending is None:
            log.debug("answer to nothing id=%r", id)
            return
        error, result = message.get("error"), message.get("result")
        if isinstance(error, dict):
            code = error.get("code")
            known = code if isinstance(code, int) else INTERNAL_ERROR
            self._settle(pending, RpcError(known, str(error.get("message", "")), error.get("data")))
        elif isinstance(result, dict):
            self._settle(pending, result)
        else:
            self._settle(pending, RpcError(INVALID_REQUEST, "The answer has no result object."))

    @staticmethod
    def _settle(pending: _Pending, result: Params | RpcError) -> None:
        pending.result = result
        pending.answered.set()


_connection_closed = partial(RpcError, CONNECTION_CLOSED, "The connection was closed.")
