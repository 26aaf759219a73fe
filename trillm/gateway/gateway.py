"""The use case: one call in, one reply out, within one budget.

The gateway knows no sockets and no framework. A face gives it a :class:`~trillm.gateway.call.Call` and a
:class:`~trillm.gateway.reply.Reply` and runs it in a scope that is cancelled when the caller leaves; whatever then
happens here (deadline, shutdown, the caller gone) is the same cancellation, and unwinds the same ``with`` blocks:
upstream connection, slot, record.
"""

import logging
from collections.abc import Callable

import trio
from attrs import define, field

from trillm import logs
from trillm.budget import Budget
from trillm.errors import (
    BadRequest,
    BudgetSpent,
    Overloaded,
    TrillmError,
    Unavailable,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamRefused,
)
from trillm.gateway.access import require_model
from trillm.gateway.call import Call
from trillm.gateway.dispatch import Dispatch
from trillm.gateway.envelopes import send_error
from trillm.gateway.images import Images
from trillm.gateway.journey import Journey, Outcome, RequestFinished, count
from trillm.gateway.limits import Limits, open_budget
from trillm.gateway.plain import PlainAnswer
from trillm.gateway.reply import ClientLeft, Headers, Reply
from trillm.gateway.retrieval import retrieve
from trillm.gateway.retry import Attempts, RetryTokens
from trillm.gateway.tools.asked import read_asked
from trillm.gateway.tools.loop import ToolLoop
from trillm.gateway.tools.responses import ToolResponse, response_with_tools
from trillm.gateway.tools.source import NoTools, ToolSource
from trillm.gateway.translation import speakers
from trillm.metrics import Metrics
from trillm.models import Operation
from trillm.pool.pool import Pool
from trillm.registry.document import ToolLimits
from trillm.wire.exchange import Connections
from trillm.wire.pump import Pump

log = logging.getLogger(__name__)

_STATED_OUTCOMES = (
    (BudgetSpent, Outcome.BUDGET),
    ((Overloaded, UpstreamBusy), Outcome.SHED),
    ((BadRequest, UpstreamRefused), Outcome.REFUSED),
    ((UpstreamFailed, Unavailable), Outcome.FAILED),
)


class Stopping(Unavailable):
    """trillm is shutting down."""

    code = "stopping"


@define(eq=False)
class Gateway:
    """See the module's docstring.

    Args:
        pool: who serves.
        connections: how they are reached.
        limits: returns the budgets in force now.
        publish: where :class:`RequestFinished` goes.
        metrics: what is counted.
        pump: carries streams; without one each is carried by its own task.
        images: fetches those that requests point to, for servers that cannot; None leaves that to them.
        tools: the MCP servers whose tools chats may have run.
        tool_limits: returns the limits of that.
    """

    pool: Pool
    connections: Connections
    limits: Callable[[], Limits]
    publish: Callable[[object], None]
    metrics: Metrics
    pump: Pump | None = None
    images: Images | None = None
    tools: ToolSource = field(factory=NoTools)
    tool_limits: Callable[[], ToolLimits] = ToolLimits
    stopping: bool = field(default=False, init=False)
    _running: dict[Budget, Reply] = field(factory=dict, init=False, repr=False)
    _retry_tokens: RetryTokens = field(factory=RetryTokens, init=False, repr=False)

    async def handle(self, call: Call, reply: Reply) -> None:
        """Answer ``call`` through ``reply``. Raises nothing but Cancelled; each call ends in one record."""
        journey = Journey(call)
        try:
            await self._answer(call, reply, journey)
            journey.outcome = Outcome.OK
        except TrillmError as error:
            _note(journey, error)
            await self._answer_error(call, reply, error, journey)
        except ClientLeft:
            journey.outcome = Outcome.CLIENT_GONE
        except Exception:
            log.exception("request broken id=%s", call.id)
            journey.outcome = Outcome.BROKEN
            await self._answer_error(call, reply, TrillmError("trillm failed; its log says why."), journey)
        finally:
            self._record(journey)

    @property
    def running(self) -> int:
        """How many calls are being answered."""
        return len(self._running)

    def cut_all(self, reason: str) -> None:
        """End every running call now: with an error event where a stream has begun, else with a 503."""
        for budget, reply in tuple(self._running.items()):
            if not reply.finished:
                budget.cut(Stopping(reason))

    async def _answer(self, call: Call, reply: Reply, journey: Journey) -> None:
        if self.stopping:
            raise Stopping("trillm is stopping; try again in a moment.")
        entry = self.pool.catalog.resolve(call.model, call.operation)
        if call.grants.models is not None:
            require_model(call.grants, entry.name)
        if call.dialect is not None:
            entry = speakers(entry, call, call.dialect)
        limits = self.limits()
        budget = open_budget(call, entry, limits)
        self._retry_tokens.earn()
        attempts = Attempts(entry.plan, self._retry_tokens)
        dispatch = Dispatch(
            self.pool, self.connections, self.pump, self.metrics, limits, call, entry, budget, reply, journey, attempts
        )
        try:
            self._running[budget] = reply
            with budget.spend():
                if self.images is not None:
                    dispatch.call = await self.images.inlined(call, entry)
                whole = await self._answers(dispatch)
            if whole is not None:
                # The time to send it is the caller's own.
                journey.status = whole.status
                await whole.send(reply)
        finally:
            del self._running[budget]

    async def _answers(self, dispatch: Dispatch) -> PlainAnswer | None:
        retrieval = dispatch.call.retrieval
        return await (self._with_tools(dispatch).run() if retrieval is None else retrieve(dispatch, retrieval))

    def _with_tools(self, dispatch: Dispatch) -> Dispatch | ToolLoop | ToolResponse:
        """Return what answers a call: after one quick look the dispatch itself, unless tools are asked for."""
        call, servers = dispatch.call, dispatch.entry.mcp_servers
        if not (call.mcp or servers):
            return dispatch
        if call.operation is Operation.RESPONSES:
            chats = self.pool.catalog.resolve(call.model, Operation.CHAT)
            return response_with_tools(dispatch, chats, self.tools, self.tool_limits())
        if call.operation is not Operation.CHAT:
            return dispatch
        asked = read_asked(call.body, servers, self.tools)
        return dispatch if asked is None else ToolLoop(dispatch, asked, self.tools, self.tool_limits())

    async def _answer_error(self, call: Call, reply: Reply, error: TrillmError, journey: Journey) -> None:
        """Say what went wrong, in the way that the reply still allows."""
        if reply.finished:
            return
        if isinstance(error, UpstreamFailed) and journey.server is not None:
            error.message = f"Server {journey.server!r}: {error.message}"
        try:
            if not reply.started:
                await send_error(reply, error, call.id, self._context(journey), call.operation, call.body)
                journey.status = error.status
            elif call.stream and not journey.torn:
                await reply.finish(journey.stream_error(error))
            else:
                reply.abort()
        except ClientLeft:
            journey.outcome = Outcome.CLIENT_GONE

    def _context(self, journey: Journey) -> Headers:
        headers = [(b"server-timing", journey.server_timing())]
        if journey.server is not None:
            headers.append((b"x-trillm-server", journey.server.encode()))
        return headers

    def _record(self, journey: Journey) -> None:
        journey.ended = trio.current_time()
        times = journey.times()
        count(self.metrics, journey, times)
        self.publish(RequestFinished(journey))
        logs.info(log, "request", journey.fields(times))


def _note(journey: Journey, error: TrillmError) -> None:
    journey.error = error.message
    if isinstance(error, Stopping):
        journey.outcome = Outcome.STOPPED
        return
    journey.outcome = next((outcome for kinds, outcome in _STATED_OUTCOMES if isinstance(error, kinds)), Outcome.BROKEN)
