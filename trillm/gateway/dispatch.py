"""One call on its way through the servers: lease, exchange, and another attempt where that is still possible.

The only loop over attempts. It holds a slot no longer than the server works for it: a whole answer is sent on when its
server is free again.
"""

import logging

import trio
from attrs import define, field

from trillm.budget import Budget, Phase
from trillm.errors import BudgetSpent, Unavailable, UpstreamBusy, UpstreamFailed, UpstreamRefused
from trillm.gateway.call import Call
from trillm.gateway.incoming import refusal
from trillm.gateway.journey import Journey
from trillm.gateway.keepalive import LONG_S, KeepAlive
from trillm.gateway.limits import Limits, narrow
from trillm.gateway.outgoing import outgoing
from trillm.gateway.plain import PlainAnswer, read_plain
from trillm.gateway.reply import Reply
from trillm.gateway.retry import Attempts
from trillm.gateway.stream import StreamRelay, no_stream
from trillm.gateway.translation import answered, asked_of, listener
from trillm.metrics import Metrics
from trillm.pool.catalog import Entry
from trillm.pool.pool import Lease, Pool
from trillm.sse import Scanner
from trillm.wire.exchange import Connections, Exchange
from trillm.wire.pump import Pump

log = logging.getLogger(__name__)


@define(eq=False)
class Dispatch:
    """Answers one call; see the module's docstring.

    Args:
        pool: who serves.
        connections: how they are reached.
        pump: carries streams, if there is one.
        metrics: told of retries.
        limits: the budgets in force.
        call: what is asked.
        entry: who may answer.
        budget: entered by the caller.
        reply: where the answer goes.
        journey: filled in.
        attempts: of this call, empty.
        blames: whether a budget that is spent may be held against the server.
    """

    pool: Pool
    connections: Connections
    pump: Pump | None
    metrics: Metrics
    limits: Limits
    call: Call
    entry: Entry
    budget: Budget
    reply: Reply
    journey: Journey
    attempts: Attempts
    blames: bool = field(default=True, kw_only=True)
    _failed: UpstreamFailed | None = field(default=None, init=False)

    async def run(self) -> PlainAnswer | None:
        """Try servers until one answers. A stream has been relayed on return, a whole answer is returned.

        Raises:
            TrillmError: nobody did, or a stream had to end before its time: once content went out there is no other
                attempt.
        """
        while True:
            try:
                return await self._attempt()
            except UpstreamFailed as failed:
                if self.reply.started:
                    raise
                await self._before_next(failed)

    async def _attempt(self) -> PlainAnswer | None:
        """Put the call to one server; see :meth:`run`."""
        try:
            async with self.pool.lease(self.entry.plan, self.budget, tried=self.attempts.tried) as lease:
                self.journey.lease(lease)
                narrow(self.budget, self.call, self.entry, lease.member.server, self.limits)
                return await self._judged(lease)
        except Unavailable:
            if self._failed is None:
                raise
            raise self._failed from None  # what the last server said tells more than "nobody is left"

    async def _judged(self, lease: Lease) -> PlainAnswer | None:
        """Exchange, and tell the pool how the server did."""
        try:
            answer = await self._exchange(lease)
        except UpstreamBusy as busy:
            lease.full(busy.retry_after_s)
            raise
        except UpstreamFailed as failed:
            lease.failed(failed)
            raise
        except UpstreamRefused:
            lease.succeeded()
            raise
        except BudgetSpent as spent:
            self._blame(lease, spent.phase)
            raise
        except trio.Cancelled:
            if self.budget.left_s() <= 0:
                self._blame(lease, self.budget.phase)
            raise
        lease.succeeded()
        return answer

    def _blame(self, lease: Lease, phase: str) -> None:
        """Hold a missed budget against the server; not a caller's wish that was too short, nor an answer too long."""
        if self.blames and self.call.budget_s is None and (phase != Phase.TOTAL or self._stuck(lease)):
            lease.failed(UpstreamFailed(f"the latency budget was spent in phase '{phase}'"))

    def _stuck(self, lease: Lease) -> bool:
        """Tell whether a whole answer that did not come speaks against its server.

        A long answer is no fault. But of a server that answered nobody meanwhile another one is the better choice, if
        there is one.
        """
        others = any(candidate.member is not lease.member for candidate in self.entry.plan.candidates)
        return others and lease.silent and not self.call.stream

    async def _exchange(self, lease: Lease) -> PlainAnswer | None:
        call, dialect = self.call, self.call.dialect
        asked = call if dialect is None else asked_of(lease.member, lease.model, call, dialect)
        phase = Phase.FIRST_TOKEN if call.stream else Phase.TOTAL
        async with self.connections.exchange(outgoing(asked, lease), self.budget, phase, self._patience()) as exchange:
            self.journey.connected = exchange.connected
            if exchange.status >= 300:
                raise await refusal(exchange, lease.member.backend)
            answer = None
            if call.stream:
                await self._relay(asked, lease, exchange)
            else:
                answer = await read_plain(asked, lease, exchange, self.journey)
                if dialect is not None:
                    answer = answered(answer, call, asked, dialect, self.journey)
        lease.member.first_token.add(self.journey.first_token_since_lease_s)
        return answer

    def _patience(self) -> KeepAlive | None:
        if not self.call.stream or self.budget.limit_s < LONG_S or self.reply.started:
            return None
        return KeepAlive(self.call, self.reply, self.journey)

    async def _relay(self, asked: Call, lease: Lease, exchange: Exchange) -> None:
        error = await no_stream(lease.member.backend, exchange)
        if error is not None:
            raise error
        call, dialect = self.call, self.call.dialect
        listens = (Scanner(), None) if dialect is None else listener(call, asked, dialect, self.journey)
        await StreamRelay(asked, lease, exchange, self.reply, self.journey, self.budget, self.pump, *listens).run()

    async def _before_next(self, failed: UpstreamFailed) -> None:
        """Wait as long as is wise before the next attempt; raise ``failed`` if there should be none."""
        member = self.journey.member
        pause_s = self.attempts.next_pause_s(member, failed, self.budget)
        self._failed = failed
        self.metrics.retried(member.name)
        fields = {"id": self.call.id, "server": member.name, "error": failed.message}
        log.info("attempt failed", extra={"fields": fields})
        await trio.sleep(pause_s)
